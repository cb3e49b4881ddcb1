"""Tables of the starter's generated entities: licences, relations, kinds, countries and words."""

from __future__ import annotations

ALLOWED_LICENCES = frozenset(("CC0", "Wikidata CC0", "public domain", "MIT", "ISC", "BSD-3-Clause", "CC BY 2.5", "CC BY 4.0"))
"""Licences of facts that are shipped. Rows with any other, such as that of glosses, are left out."""

ROW_FACTS = {
    "occupation": "occupation",
    "country": "country",
    "located in": "located",
    "genre": "genre",
    "cast member": "cast",
    "country of citizenship": "citizen",
    "educated at": "studied_at",
    "home venue": "venue",
    "country of origin": "origin",
    "place of birth": "born_in",
    "narrative location": "setting",
    "record label": "label",
    "instrument": "instrument",
    "place of death": "died_in",
    "influenced by": "influenced_by",
    "member of political party": "party",
    "director": "director",
    "employer": "employer",
    "spouse": "spouse",
    "headquarters location": "seat",
    "location of formation": "comes_from",
    "parent organization": "parent",
    "founded by": "founder",
    "part of": "part_of",
    "position held": "position",
    "represents": "represents",
    "field of work": "field",
    "movement": "movement",
    "nationality": "nationality",
    "sport": "sport",
    "author": "writer",
    "continent": "continent",
}
"""Label of a fact in a row to the attribute."""
NUMBERS = {"born": "born", "died": "died", "founded": "founded", "population": "population"}
"""Label of a fact with a number to the attribute."""

COUNTRY_NAMES = {
    "United States of America": "United States", "Congo (Kinshasa)": "Democratic Republic of the Congo",
    "Congo (Brazzaville)": "Republic of the Congo", "People's Republic of China": "China", "Türkiye": "Turkey",
    "The Gambia": "Gambia", "The Bahamas": "Bahamas", "Czechia": "Czech Republic", "Macedonia": "North Macedonia",
    "Swaziland": "Eswatini", "Kingdom of the Netherlands": "Netherlands", "Republic of Ireland": "Ireland",
    "Bosnia And Herzegovina": "Bosnia and Herzegovina",
}  # fmt: skip
"""Names of countries in the sources to those of the sentences."""
WITH_ARTICLE = frozenset(
    (
        "United States", "United Kingdom", "Netherlands", "Philippines", "Czech Republic", "Bahamas", "Gambia", "Maldives",
        "United Arab Emirates", "Dominican Republic", "Central African Republic", "Democratic Republic of the Congo",
        "Republic of the Congo", "Soviet Union", "Solomon Islands", "Marshall Islands", "Cayman Islands", "Faroe Islands",
        "Ottoman Empire", "Russian Empire", "British Empire", "Roman Empire", "Holy Roman Empire", "Bronx", "Comoros",
        "Seychelles", "Isle of Man", "Caribbean", "Midwest", "District of Columbia", "Hague", "Weimar Republic", "Vatican",
        "Republic of Venice", "Byzantine Empire", "German Empire", "Austrian Empire", "Canary Islands", "Falkland Islands",
        "Northern Territory", "Virgin Islands", "Channel Islands", "Hawaiian Islands", "Balearic Islands", "Middle East",
        "West Midlands", "Isle of Wight", "Hamptons", "Crimea Republic", "West Indies", "Alps", "Pyrenees", "Balkans",
    )
)  # fmt: skip
"""Places whose names take an article."""

_DEMONYMS = """Afghan Afghanistan;Albanian Albania;Algerian Algeria;American United States;Andorran Andorra;Angolan Angola
Argentine Argentina;Argentinian Argentina;Armenian Armenia;Australian Australia;Austrian Austria;Azerbaijani Azerbaijan
Bahamian Bahamas;Bahraini Bahrain;Bangladeshi Bangladesh;Barbadian Barbados;Belarusian Belarus;Belgian Belgium
Belizean Belize
Beninese Benin;Bhutanese Bhutan;Bolivian Bolivia;Bosnian Bosnia and Herzegovina;Botswanan Botswana;Brazilian Brazil
British United Kingdom;Bulgarian Bulgaria;Burmese Myanmar;Cambodian Cambodia;Cameroonian Cameroon;Canadian Canada
Chadian Chad
Chilean Chile;Chinese China;Colombian Colombia;Congolese Democratic Republic of the Congo;Costa Rican Costa Rica
Croatian Croatia;Cuban Cuba;Cypriot Cyprus;Czech Czech Republic;Danish Denmark;Dominican Dominican Republic
Dutch Netherlands
Ecuadorian Ecuador;Egyptian Egypt;Emirati United Arab Emirates;English England;Eritrean Eritrea;Estonian Estonia
Ethiopian Ethiopia;Fijian Fiji;Filipino Philippines;Finnish Finland;Flemish Flanders;French France;Gabonese Gabon
Gambian Gambia;Georgian Georgia;German Germany;Ghanaian Ghana;Greek Greece;Guatemalan Guatemala;Guinean Guinea
Guyanese Guyana;Haitian Haiti;Honduran Honduras;Hong Kong Hong Kong;Hungarian Hungary;Icelandic Iceland;Indian India
Indonesian Indonesia;Iranian Iran;Iraqi Iraq;Irish Ireland;Israeli Israel;Italian Italy;Ivorian Ivory Coast;Jamaican Jamaica
Japanese Japan;Jordanian Jordan;Kazakh Kazakhstan;Kazakhstani Kazakhstan;Kenyan Kenya;Kosovan Kosovo;Kuwaiti Kuwait
Kyrgyz Kyrgyzstan;Laotian Laos;Latvian Latvia;Lebanese Lebanon;Liberian Liberia;Libyan Libya;Lithuanian Lithuania
Luxembourgish Luxembourg;Macedonian North Macedonia;Malagasy Madagascar;Malawian Malawi;Malaysian Malaysia;Malian Mali
Maltese Malta;Mauritanian Mauritania;Mauritian Mauritius;Mexican Mexico;Moldovan Moldova;Mongolian Mongolia
Montenegrin Montenegro;Moroccan Morocco;Mozambican Mozambique;Namibian Namibia;Nepalese Nepal;New Zealand New Zealand
Nicaraguan Nicaragua;Nigerian Nigeria;North Korean North Korea;Northern Irish Northern Ireland;Norwegian Norway
North Macedonian North Macedonia;Omani Oman
Pakistani Pakistan;Palestinian Palestine;Panamanian Panama;Paraguayan Paraguay;Peruvian Peru;Polish Poland
Portuguese Portugal
Puerto Rican Puerto Rico;Qatari Qatar;Romanian Romania;Russian Russia;Rwandan Rwanda;Salvadoran El Salvador;Samoan Samoa
Saudi Saudi Arabia;Scottish Scotland;Senegalese Senegal;Serbian Serbia;Sierra Leonean Sierra Leone;Singaporean Singapore
Slovak Slovakia;Slovene Slovenia;Slovenian Slovenia;Somali Somalia;South African South Africa;South Korean South Korea
Soviet Soviet Union;Spanish Spain;Sri Lankan Sri Lanka;Sudanese Sudan;Surinamese Suriname;Swedish Sweden;Swiss Switzerland
Syrian Syria;Taiwanese Taiwan;Tajik Tajikistan;Tanzanian Tanzania;Thai Thailand;Togolese Togo;Tunisian Tunisia
Turkish Turkey
Turkmen Turkmenistan;Ugandan Uganda;Ukrainian Ukraine;Uruguayan Uruguay;Uzbek Uzbekistan;Venezuelan Venezuela
Vietnamese Vietnam;Welsh Wales;Yemeni Yemen;Yugoslav Yugoslavia;Zambian Zambia;Zimbabwean Zimbabwe;Roman Ancient Rome
Catalan Catalonia;Trinidadian Trinidad and Tobago;Czechoslovak Czechoslovakia;Austro-Hungarian Austria-Hungary"""
COUNTRY_OF: dict[str, str] = {}
for _entry in _DEMONYMS.replace("\n", ";").split(";"):
    _words = _entry.split()
    _first = 2 if _words[0] in {"Costa", "Hong", "New", "North", "Northern", "Puerto", "Sierra", "South", "Sri"} else 1
    COUNTRY_OF[" ".join(_words[:_first])] = " ".join(_words[_first:])
DEMONYM_OF: dict[str, str] = {}
for _demonym, _country in COUNTRY_OF.items():
    DEMONYM_OF.setdefault(_country, _demonym)
DEMONYM_OF["Ireland"] = "Irish"
DEMONYMS_OTHERWISE = {"US": "American", "U.S.": "American", "UK": "British", "USA": "American", "Korean": "South Korean",
                      "American-born": "American", "British-American": "British-American"}  # fmt: skip
"""Spellings in the sources."""

KINDS_OF_HEADS: dict[str, str] = {}
for _kind, _heads in {
    "film": "film movie biopic",
    "tv": "series sitcom miniseries mini-series program programme show anime telenovela",
    "place": "city town seat capital state county country republic kingdom province region district borough municipality "
    "prefecture island comune commune territory neighborhood neighbourhood suburb township community voivodeship "
    "principality river range archipelago ocean continent area nation monarchy village peninsula mountain lake sea ward "
    "place oblast canton emirate desert bay strait volcano metropolis subdivision settlement parish burgh dependency "
    "empire colony",
    "site": "airport cemetery museum theatre theater skyscraper building stadium arena park bridge tower castle palace "
    "cathedral monument prison hospital resort observatory lighthouse aquarium zoo church basilica highway planet "
    "dwarf-planet telescope",
    "school": "university college school academy institute conservatory faculty seminary",
    "team": "club team franchise side",
    "band": "band duo trio supergroup quartet quintet ensemble orchestra choir boyband group",
    "company": "company corporation label publisher developer studio studios airline network channel station conglomerate "
    "manufacturer automaker bank chain retailer brand marque brewery subsidiary broadcaster newspaper magazine firm "
    "restaurant distributor insurer cooperative enterprise supermarket business store producer carrier maker hypermarket "
    "supplier automotive imprint agency-brand group-company carmaker bakery pharmacy winery distillery shipyard",
    "org": "party organization organisation agency department house league association union alliance denomination order "
    "body ministry institution society foundation charity army force police council court government authority "
    "federation confederation bureau legislature parliament senate congress branch forces navy museum-org committee",
    "award": "award prize honor honour ceremony medal accolade",
    "event": "war battle games conflict festival invasion election revolution edition championship tournament expedition "
    "massacre uprising crisis attack campaign crusade rebellion siege",
    "work": "novel book album song game opera musical painting poem manga comic play novella trilogy software "
    "franchise-work language-work character superhero",
}.items():
    KINDS_OF_HEADS.update(dict.fromkeys(_heads.split(), _kind))
"""Last word of a noun phrase to the kind of entity."""

RAW_TYPES: dict[str, tuple[str, str]] = {
    "human": ("person", ""),
    "artist": ("person", "artist"),
    "politician": ("person", "politician"),
    "film": ("film", "film"),
    "city or town": ("place", "city"),
    "big city": ("place", "city"),
    "city": ("place", "city"),
    "city/town": ("place", "city"),
    "regional capital city": ("place", "regional capital"),
    "capital city": ("place", "capital"),
    "capital": ("place", "capital"),
    "city of the United States": ("place", "city"),
    "town": ("place", "town"),
    "county seat": ("place", "city"),
    "country": ("place", "country"),
    "sovereign state": ("place", "country"),
    "state of the United States": ("place", "state"),
    "association football club": ("team", "association football club"),
    "national association football team": ("team", "national football team"),
    "American football team": ("team", "American football team"),
    "university": ("school", "university"),
    "educational institution": ("school", "university"),
    "private university": ("school", "private university"),
    "public university": ("school", "public university"),
    "public research university": ("school", "public research university"),
    "private not-for-profit educational institution": ("school", "private university"),
    "liberal arts college": ("school", "liberal arts college"),
    "musical group": ("band", "band"),
    "rock band": ("band", "rock band"),
    "record label": ("company", "record label"),
    "company": ("company", "company"),
    "enterprise": ("company", "company"),
    "business": ("company", "company"),
    "airline": ("company", "airline"),
    "publisher": ("company", "publisher"),
    "nonprofit organization": ("org", "nonprofit organization"),
    "international organization": ("org", "international organization"),
    "intergovernmental organization": ("org", "intergovernmental organization"),
    "political party": ("org", "political party"),
    "government organization": ("org", "government organization"),
    "healthcare organization": ("org", "hospital"),
    "research facility": ("org", "research institute"),
    "academy of sciences": ("org", "academy of sciences"),
    "television series": ("tv", "television series"),
    "animated series": ("tv", "animated series"),
    "miniseries": ("tv", "miniseries"),
    "cemetery": ("site", "cemetery"),
    "historical country": ("place", "historical country"),
    "empire": ("place", "empire"),
    "kingdom": ("place", "kingdom"),
}
"""Type in the sources to the kind and a noun."""

BRANDS = {
    "fuel": "petrol station brand", "bank": "bank", "supermarket": "supermarket chain",
    "convenience": "convenience store chain",
    "car": "car brand", "clothes": "clothing brand", "fast_food": "fast food chain", "fast food": "fast food chain",
    "cafe": "coffee house chain", "hotel": "hotel brand", "restaurant": "restaurant chain", "pharmacy": "pharmacy chain",
    "department store": "department store chain", "electronics": "electronics retailer", "furniture": "furniture retailer",
    "motorcycle": "motorcycle brand", "cosmetics": "cosmetics brand", "sports": "sports retailer", "toys": "toy retailer",
    "shoes": "shoe brand", "jewelry": "jewellery brand", "watches": "watch brand", "books": "bookshop chain",
    "optician": "chain of opticians", "doityourself": "home improvement chain", "car rental": "car rental company",
}  # fmt: skip
"""Kind of brand in the name suggestion index to a noun."""
LOCAL_TYPES = ("operator (", "network (", "subject (flagpole)", "open-access publisher", "flag")
"""Beginnings of types that say who runs what, or that there is a flag: no kinds of entities."""

ROLES = frozenset(
    """actor actress writer musician singer politician journalist screenwriter composer poet songwriter singer-songwriter
    guitarist engineer author translator playwright model businessperson businessman businesswoman philosopher historian
    pianist
    comedian lawyer diplomat physicist mathematician economist painter scientist artist linguist inventor lyricist rapper
    dancer
    entrepreneur professor conductor jurist photographer teacher theologian physician sociologist editor cinematographer
    judge
    producer director astronomer librarian architect keyboardist explorer publisher bandleader drummer botanist
    choreographer
    illustrator sculptor presenter psychologist bassist designer soldier archaeologist biologist geographer animator
    violinist
    zoologist organist geologist banker cartoonist multi-instrumentalist naturalist revolutionary astronaut programmer
    socialite
    columnist critic philologist athlete activist priest restaurateur farmer psychiatrist statistician surgeon vocalist
    printmaker
    investor percussionist educator reporter ornithologist researcher physiologist cartographer filmmaker footballer
    dramatist
    essayist novelist broadcaster host statesman general officer admiral king queen emperor empress president monarch prince
    princess bishop pope chemist biochemist astrophysicist neuroscientist boxer wrestler swimmer golfer driver cyclist
    cricketer
    skater gymnast sprinter runner player coach manager magician humorist satirist chef personality impressionist stuntman
    cellist saxophonist trumpeter flautist harpsichordist arranger philanthropist industrialist executive magnate criminal
    gangster aviator pilot spy nurse naturalist missionary rabbi mystic saint prophet preacher ceramicist engraver draftsman
    draughtsman lithographer etcher potter weaver jeweller goldsmith silversmith typographer calligrapher memoirist
    biographer
    scholar anthropologist logician polymath feminist suffragist abolitionist reformer senator congressman congresswoman
    governor
    mayor ambassador minister chancellor disc_jockey commentator anchor newscaster announcer sportscaster pundit voice-over
    costumer decorator supervisor stylist puppeteer ventriloquist clown acrobat rower sailor skier snowboarder surfer jockey
    fencer archer judoka marathoner quarterback pitcher catcher outfielder shortstop goalkeeper midfielder striker defender
    trumpeter trombonist harpist clarinetist violist bassoonist tenor soprano baritone contralto mezzo-soprano
    countertenor""".replace("_", " ").split()
)
"""Last words of occupations."""
GENERIC_ROLES = frozenset(
    ("artist", "author", "public figure", "performing artist", "creator", "producer", "director", "celebrity", "writer",
     "musician", "visual artist", "person", "editor", "organizer", "university teacher", "academic", "athlete", "presenter",
     "military personnel", "spokesperson", "performer", "manager", "professor", "teacher")
)  # fmt: skip
"""Occupations that say little where another is known."""
FEMALE, MALE = frozenset(("Q6581072", "Q43445", "Q1052281")), frozenset(("Q6581097", "Q44148", "Q2449503"))

TYPES_OF_NOUNS = {
    "city": "city", "town": "town", "village": "village", "seat": "city", "capital": "city", "county": "county",
    "state": "state",
    "country": "country", "republic": "country", "monarchy": "country", "nation": "country", "province": "province",
    "region": "region", "district": "district", "borough": "district", "neighborhood": "district",
    "neighbourhood": "district",
    "ward": "district", "suburb": "town", "municipality": "municipality", "comune": "municipality",
    "commune": "municipality",
    "prefecture": "region", "island": "island", "archipelago": "island", "river": "river", "lake": "lake", "sea": "sea",
    "ocean": "sea", "mountain": "mountain", "range": "mountain range", "continent": "continent", "territory": "territory",
    "airport": "airport", "cemetery": "cemetery", "museum": "museum", "theatre": "theatre", "theater": "theatre",
    "skyscraper": "building", "building": "building", "stadium": "stadium", "arena": "stadium", "university": "university",
    "college": "college", "school": "school", "academy": "school", "institute": "institute", "conservatory": "school",
    "club": "sports team", "team": "sports team", "franchise": "sports team", "side": "sports team", "airline": "airline",
    "bank": "bank", "label": "record label", "newspaper": "newspaper", "magazine": "magazine", "network": "broadcaster",
    "channel": "broadcaster", "station": "broadcaster", "broadcaster": "broadcaster", "studio": "film studio",
    "brand": "brand",
    "marque": "brand", "chain": "retailer", "retailer": "retailer", "store": "retailer", "supermarket": "retailer",
    "automaker": "car maker", "party": "political party", "ministry": "government agency", "agency": "government agency",
    "department": "government agency", "league": "sports league", "army": "military", "navy": "military", "war": "war",
    "battle": "battle", "games": "sports event", "festival": "festival", "election": "election", "song": "song",
    "album": "album", "novel": "book", "book": "book", "novella": "book", "game": "game", "software": "software",
    "manga": "comic", "comic": "comic", "opera": "opera", "musical": "musical", "painting": "painting",
}  # fmt: skip
"""Last word of a noun phrase to a type."""
BROAD_TYPES = {
    "person": "person", "film": "film", "tv": "television series", "place": "place", "site": "place",
    "school": "organization",
    "team": "organization", "band": "band", "company": "company", "brand": "company", "org": "organization",
    "award": "award", "event": "event",
    "work": "work",
}  # fmt: skip
"""Kind to the type that all its entities have."""
LEAST_PIECES = {
    "person": 3, "film": 3, "tv": 3, "place": 2, "site": 2, "school": 3, "team": 2, "band": 3, "company": 2, "org": 2,
    "brand": 2, "award": 2, "event": 2, "work": 3,
}  # fmt: skip
"""Kind to the fewest facts that tell an entity from others of its kind."""
MOST_OF_KIND = {
    "person": 8800, "film": 3000, "tv": 500, "place": 7200, "site": 200, "school": 1916, "team": 3200, "band": 500,
    "company": 1300, "org": 300, "brand": 300, "award": 200, "event": 300, "work": 300,
}  # fmt: skip
"""Kind to the most entities of it."""
CAPITALISED_WORDS = (
    "R&B TV FM AM NHS NBA NFL NHL MLB DVD 3D IT J-pop K-pop Ivy League Catholic Christian Jewish Islamic Methodist Lutheran "
    "Major National Football Baseball Basketball Hockey Olympic Summer Winter Internet Formula One Gaelic Romance"
)
"""Words with a capital letter that noun phrases may hold."""
NO_LONGER = frozenset(
    ("Soviet Union", "Yugoslavia", "Czechoslovakia", "German Empire", "East Germany", "West Germany", "Nazi Germany", "Prussia",
     "Weimar Republic", "Ottoman Empire", "Austria-Hungary", "Roman Empire", "Russian Empire", "British Empire",
     "Holy Roman Empire", "Austrian Empire",
     "Byzantine Empire", "Kingdom of Great Britain", "Kingdom of Italy", "German Reich", "Republic of Venice")
)  # fmt: skip
"""Countries that are no more: cities are not said to be in them."""
