"""Words that change how names are compared: short forms of first names, titles, legal forms, generations, kinds of things."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SHORT_FIRST_NAMES = """
abigail abby; abraham abe; agnes aggie; albert al bert bertie albrecht; alexander alex alec sasha sandy xander; alexandra
alex sasha sandra; alfred al fred alf; alice allie; alistair al; allison allie; amanda mandy; andrew andy drew; andrea
andy; angela angie; anna annie ann anne nan; annette annie; anthony tony ant; antoinette toni; antonia toni; antonio tony
toni; arnold arnie; arthur art artie; augustus gus; barbara barb barbie babs; barnabas barney; bartholomew bart; benjamin
ben benny benji; bernard bernie; beatrice bea trixie; bradley brad; bridget biddy bridie; calvin cal; cameron cam;
caroline carrie lina carol; catherine kate cathy katie kitty cate kay kathy kat; katherine kate kathy katie kitty kay kat;
kathleen kate kathy katie; charles charlie chuck chas chip charly; charlotte lottie charlie lotte; chester chet; christian
chris; christina chris tina chrissy; christine chris tina chrissy; christopher chris kit topher; clifford cliff; clinton
clint; constance connie; cornelius neil; curtis curt; cynthia cindy; daniel dan danny; danielle dani; david dave davy;
deborah deb debbie; dennis denny; dominic dom; donald don donnie; dorothy dot dottie dolly; douglas doug; edgar ed eddie;
edmund ed eddie ned; edward ed eddie ted ned teddy eddy; edwin ed eddie; eleanor ellie nell nora; elizabeth liz lizzie
beth betty bess eliza lisa libby betsy bette elsie; ellen nell ellie; emily em emmy millie; emma em; eugene gene; evelyn
evie; ezekiel zeke; felicity flick; ferdinand ferdy; florence flo florrie; frances fran frankie francie; francis frank
frankie fran; franklin frank; frederick fred freddie fritz freddy; gabriel gabe; gabrielle gaby; gareth gaz; gerald gerry
jerry; geraldine gerry; gerard gerry; gilbert gil bert; giovanni gianni; giuseppe beppe pino; gordon gord; gregory greg;
gwendolyn gwen; harold harry hal; harriet hattie harry; harrison harry; helen nell; henrietta etta hetty; henry harry hank
hal; herbert bert herb bertie; howard howie; hubert bert; hugh hughie; humphrey humph; ian iain; ignatius iggy; irene
rene; isaac ike zac; isabella bella izzy isabel belle; jacob jake jack; jacqueline jackie; james jim jimmy jamie jem; jane
janie jenny; janet jan; jason jay; jasper jaz; jean jeanie; jeffrey jeff; geoffrey geoff jeff; jennifer jen jenny; jeremy
jerry jez; jeremiah jerry; jerome jerry; jessica jess jessie; joanna jo; joanne jo; joan joanie; johann hans; johannes
hans jan; john jack johnny jon; jonathan jon johnny nathan; joseph joe joey jo; josephine jo josie; joshua josh; jose
pepe; judith judy jude; julia julie jules; julian jules; kenneth ken kenny; kimberly kim; lawrence larry laurie; laurence
larry laurie; leonard len lenny leo; leopold leo; leroy roy; leslie les; lewis lew louie; lillian lil lily; louis lou
louie; louise lou; lucas luke; lucille lucy; lucinda lucy cindy; luis lucho; mackenzie mack; madeleine maddie; magdalena
lena magda; malcolm mal; marcus mark marc; margaret maggie meg peggy marge greta margie madge daisy rita; maria mia;
marianne mary; marilyn mary; marjorie marge; martha marty mattie; martin marty; mary molly polly mamie; matthew matt;
matilda tilda tilly; maurice moe; maxim max; maximilian max; maxwell max; melanie mel; melissa mel missy; melvin mel;
meredith merry; michael mike mick mickey micky mikey misha; michelle shelly; mikhail misha; mildred millie; miriam mimi;
mitchell mitch; mohammed mo; montgomery monty; nancy nan; natalie nat; natalia natasha; nathan nate nat; nathaniel nate
nat nathan; nicholas nick nicky klaus; nicola nicky; nicole nicky; nikolai kolya; norman norm; oliver ollie; olivia liv
livia; oscar ozzie; oswald oz ozzie; pamela pam; patricia pat patty trish tricia patsy; patrick pat paddy; paul paulie;
pauline polly; penelope penny; percival percy; peter pete; philip phil pip; phillip phil; philippa pippa; phyllis phyl;
priscilla cilla; rachel rae; ralph rafe; randall randy; randolph randy; raymond ray; rebecca becky becca; reginald reg
reggie; rene ren; richard dick rick rich ricky richie; robert bob rob bobby robbie bert robby; roberta bobbie; roderick
rod; rodney rod; roger rodge; roland rollie; ronald ron ronnie; rosalind ros roz; rosemary rosie rose; rudolf rudy rolf;
rupert bert; russell russ; salvatore sal; samantha sam; samuel sam sammy; sandra sandy; sarah sally sadie; sebastian seb
bastian; sergei seryozha; sharon shaz; sheila shee; sidney sid; simon si; solomon sol; sophia sophie; stanley stan; stella
ella; stephen steve stevie; steven steve stevie; stuart stu; susan sue susie suzy; susannah sue susie; suzanne sue suzy;
sylvester sly; terence terry; teresa terry tess tessa; theresa terry tess; theodore ted teddy theo; thomas tom tommy;
timothy tim timmy; tobias toby; ulysses uly; valentina valya; valerie val; vanessa nessa; veronica ronnie vera; victor
vic; victoria vicky tori; vincent vince vinny; virginia ginny; vivian viv; vladimir vova volodya; walter walt wally;
wendell wen; wilfred wilf; wilhelm willi; william bill will billy willy liam willie; winifred winnie; winston winnie;
yevgeny zhenya; zachary zach zack
"""

SHORT_FORMS: dict[str, frozenset[str]] = {}
"""A first name -> the full names that it may stand for, itself included: ``bob`` -> ``robert``."""
for _entry in _SHORT_FIRST_NAMES.split(";"):
    _full, *_shorts = _entry.split()
    for _name in (_full, *_shorts):
        SHORT_FORMS[_name] = SHORT_FORMS.get(_name, frozenset()) | {_full}

OTHER_FIRST_NAMES = _words(
    """
    adam ahmed ali amir ana andrei anita anja antoine ariel ben birgit boris bruno carl carla carlos cesar chen clara
    claire claude claudia craig dario dean diana diego dmitri elena eric erik eva fatima felix fernando franz georg
    george georges gunter hamid hans hassan heinrich heike helga hugo ibrahim igor ingrid ivan ivana javier jean jens
    jin joao jorge juan juergen jun karim karl karen keith kevin klaus kyle lars laura lei li lin linda ling lisa
    lorenzo lucia luigi marco mario marie mark marta mei min ming mohamed monica muhammad mustafa neil nina noah nuno
    olga omar oscar otto pablo pedro petra pierre rafael rahul raj ravi ricardo roberto rosa ruth ryan said salma sanjay
    sara sean sergio sven tatiana thomas tim tina ulrich ursula wang wei werner yan yang yong yuki yusuf
    """
)
"""Common first names without a short form in `SHORT_FORMS`."""

COMMON_FAMILY_NAMES = _words(
    """
    adams ahmed alexander ali allen alvarez anderson bailey baker barnes becker bell bennett bernard brooks brown bush
    butler campbell carter castillo chan chang chavez chen clark cohen collins cook cooper cox cruz davies davis diaz
    douglas dubois edwards evans fernandez ferrari fischer fisher flores ford foster garcia gomez gonzalez graham grant
    gray green griffin gupta gutierrez hall hamilton harris harrison hassan hayes henderson hernandez hill hoffmann
    howard huang hughes hunt hussein ibrahim ivanov jackson james jenkins jensen jimenez johnson johnston jones jordan
    jung kaiser kelly kennedy khan kim king klein koch kowalska kowalski kumar lee lewis li lin liu long lopez marshall
    martin martinez mason meyer miller mitchell moore morales moreno morgan morris morrison mueller muller murphy murray
    myers nelson nguyen nielsen novak olson ortiz owens palmer parker park patel patterson pereira perez perry peters
    peterson petrov phillips popov powell price ramirez ramos reed reyes reynolds richards richardson richter rivera
    roberts robertson robinson rodriguez rogers romero rose ross rossi russell russo ruiz sanchez sanders santos sato
    schmidt schmitz schneider scott shah sharma shaw silva simmons simon simpson singh smith smirnov sousa spencer
    stevens stewart sullivan suzuki taylor thomas thompson torres tran tucker turner vasquez wagner walker wallace wang
    ward washington watson weber webb wells west white williams wilson wolf wong wood woods wright wu xu yang yilmaz
    young zhang zhao zhou zhu
    """
)
"""Family names that many people have."""

HONORIFICS = _words(
    """
    mr mrs ms miss mx dr doctor prof professor sir dame lord lady saint st rev reverend father fr sister mother brother
    pope president senator sen chancellor minister judge justice captain capt lieutenant lt colonel col general gen
    major maj sergeant sgt admiral adm corporal cpl commander king queen prince princess duke duchess baron baroness
    count countess emperor empress imam ayatollah sheikh rabbi herr frau monsieur madame mme mlle don dona senor senora
    signor signora chef fa hon coach inspector ing dipl mag phd md esq mp cbe obe kbe
    """
)
"""Titles and degrees that a name has with or without."""

LEGAL_FORMS = _words(
    """
    inc incorporated corp corporation co company ltd limited llc llp lp plc gmbh ag kg kgaa ohg ug se sa sas sarl srl
    spa nv bv ab as asa aps oy oyj ou sro zrt kft doo pte pty pvt bhd kk aktiengesellschaft
    """
)
"""Legal forms of companies, without dots."""
LEGAL_PHRASES = ("s a r l", "s r l", "s p a", "s a", "a s", "n v", "b v", "g m b h", "l l c", "a g", "p l c", "s e", "co kg")
"""Legal forms that normalization takes apart, with dots and slashes."""

GENERATIONS = {
    "jr": "younger", "junior": "younger", "jnr": "younger", "younger": "younger", "fils": "younger", "minor": "younger",
    "sr": "elder", "senior": "elder", "snr": "elder", "elder": "elder", "pere": "elder", "major": "elder",
}  # fmt: skip
"""Words at the end of a person's name for a generation."""

_ABBREVIATIONS = """
st saint; ste saint; mt mount; ft fort; univ university; uni university; inst institute; dept department; intl
international; int international; natl national; assn association; assoc association; govt government; bros brothers; mfg
manufacturing; tech technology; ave avenue; rd road; hosp hospital; acad academy; lib library; mus museum; soc society;
symph symphony; no number; vol volume; pt part; utd united; ctr center; centre center; cntr center; organisation
organization; organisations organizations
"""
ABBREVIATIONS = dict(pair.split() for pair in _ABBREVIATIONS.split(";"))
"""Short spellings of words in names -> what they are compared as."""
TEAM_WORDS = _words("football soccer club fc cf afc sc team futbol de")
"""Words that the name of a team has with or without."""

FUNCTION_WORDS = _words(
    """
    the a an of and for in on at to by from with de la le les du des der die das den dem von van het el los las da do
    dos del della di al y e und et or s
    """
)
"""Words without which a name is still the same name."""

STOP_WORDS = FUNCTION_WORDS | _words(
    """
    is was were are be been being has have had his her its their he she it they who whom which that this these those as
    also one two first after before into over under between during about against than then when where while not no more
    most many other some such only own same so can will would may new known former later based works worked made called
    named name born died i we you your our there
    """
)
"""Words of descriptions that tell things apart least."""

_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
ORDINALS = {word: str(number) for number, word in enumerate(_ORDINALS.split(), 1)}
"""Ordinal words of names, as numbers."""

KINDS = {
    "person": """person human people individual man woman politician actor actress singer musician writer author
        scientist athlete
        footballer player director artist composer poet painter president journalist physician researcher per per.
        character""",
    "organisation/company": """company corporation business enterprise firm brand manufacturer airline bank retailer employer
        operator""",
    "organisation/team": "team club franchise-team sports-team",
    "organisation/school": "university college school academy conservatory institute",
    "organisation/body": """organisation organization agency institution party ministry government union association band group
        orchestra ngo norp""",
    "organisation": "org",
    "place/country": "country nation sovereign-state republic kingdom",
    "place/region": "state province county region district department canton prefecture territory",
    "place/settlement": "city town village municipality capital settlement borough suburb hamlet commune",
    "place/water": "river lake sea ocean bay strait canal stream reef",
    "place/mountain": "mountain mount peak volcano hill range",
    "place/island": "island archipelago peninsula",
    "place/street": "street road square avenue lane highway",
    "place": "place location loc gpe area landform facility fac",
    "site": """building museum church bridge tower castle palace stadium airport station theatre restaurant hotel
        hospital monument park terminal library""",
    "work/film": "film movie documentary",
    "work/series": "series television tv-series television-series sitcom show",
    "work/song": "song single composition aria hymn",
    "work/album": "album record ep compilation",
    "work/book": "book novel poem play short-story comic treatise",
    "work/game": "game video-game videogame",
    "work/picture": "painting sculpture picture photograph",
    "work/stage": "ballet opera musical",
    "work": "work work_of_art creative-work artwork literary-work",
    "product": """product device phone smartphone console car vehicle aircraft software application app website
        standard protocol weapon rocket spacecraft""",
    "ship": "ship vessel boat submarine",
    "event": "event war battle tournament election conference festival match race disaster season award",
    "animal": "animal bird species mammal fish reptile insect dinosaur plant genus taxon breed",
    "sky": "planet star moon asteroid comet constellation astronomy galaxy",
    "substance": "element chemical drug mineral compound vitamin substance medication food fruit",
    "illness": "disease illness disorder syndrome",
}  # fmt: skip
"""Kinds of things, with the words of types that mean them. What follows a slash tells kinds apart that may share a name."""
COMPATIBLE = frozenset(
    frozenset(pair)
    for pair in (
        ("organisation", "site"),
        ("place", "site"),
        ("product", "organisation"),
        ("work", "product"),
        ("animal", "substance"),
    )
)
"""Pairs of kinds that one thing may have both of, such as a museum: a building and an institution."""
KIND_WORDS = frozenset(word for words in KINDS.values() for word in words.replace("-", " ").split()) | _words(
    "world cup prize award league games summer winter national international united new north south east west"
)
"""Words that tell little of a thing, capitalized or not."""
