"""What is said of entities of each kind: people, films, places, schools, teams, bands, companies, prizes, events."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from scripts.starter_facts import Item
from scripts.starter_phrases import MOST_WORDS, Names, Writer, capitalised, listed, place, rounded
from scripts.starter_tables import BRANDS, FEMALE, GENERIC_ROLES, MALE, ROLES

PERSON: tuple[tuple[str, float, int, tuple[str, ...]], ...] = (
    ("plays_for", 6.0, 3, ("played for", "was a player of")),
    ("band", 5.0, 2, ("was a member of", "played in")),
    ("created", 4.0, 2, ("created", "was the creator of")),
    ("directed", 3.0, 3, ("directed", "was the director of", "made")),
    ("wrote", 2.2, 2, ("wrote", "was a writer of")),
    ("scored", 3.0, 2, ("composed the music of", "wrote the music for")),
    ("filmed", 3.0, 2, ("was the cinematographer of", "shot")),
    ("edited", 3.0, 2, ("edited", "was the editor of")),
    ("dressed", 3.0, 2, ("designed the costumes of",)),
    ("designed", 3.0, 2, ("designed the sets of",)),
    ("acted_in", 1.4, 3, ("appeared in", "acted in", "had parts in")),
    ("produced", 1.6, 2, ("produced", "was a producer of")),
    ("founded_org", 6.0, 2, ("founded", "was a founder of")),
    ("hall", 2.0, 1, ("was inducted into",)),
    ("award", 0.8, 1, ("won", "received")),
    ("label", 1.0, 1, ("recorded for", "made records for")),
    ("employer", 1.5, 2, ("worked for", "was employed by")),
    ("studied_at", 1.2, 1, ("studied at", "was educated at")),
    ("party", 1.5, 1, ("was a politician of", "belonged to")),
    ("spouse", 1.0, 1, ("was married to",)),
    ("influenced_by", 0.3, 2, ("was influenced by",)),
    ("influenced", 0.3, 2, ("influenced",)),
    ("sibling", 1.0, 1, ("is a sibling of",)),
    ("child", 1.0, 1, ("was a parent of",)),
    ("parent_person", 1.0, 1, ("was a child of",)),
    ("died_in", 0.6, 1, ("died in",)),
    ("lived_in", 0.4, 1, ("lived in",)),
    ("movement", 1.0, 1, ("was part of",)),
    ("buried_in", 0.3, 1, ("was buried in",)),
)


def roles_of(item: Item, names: Names) -> list[str]:
    """Occupations of a person, most telling first, at most three."""
    roles = [noun for noun in item.described.nouns if noun.split()[-1].lower() in ROLES]
    more = [names.of(v) for v in item.values.get("occupation", ())]
    roles += [r for r in more if r and r[:1].islower()]
    roles = list(dict.fromkeys(r for r in roles if 0 < len(r.split()) <= 3))
    female = bool(FEMALE & set(item.values.get("gender", ())))
    if any(r.split()[-1] in {"actor", "actress"} for r in roles):
        plain = "actress" if female else "actor"
        first = next(i for i, r in enumerate(roles) if r.split()[-1] in {"actor", "actress"})
        role = roles[first] if roles[first].split()[0] in {"voice", "child", "stage"} and first == 0 else plain
        roles = [
            role if i == first else r for i, r in enumerate(roles) if i == first or r.split()[-1] not in {"actor", "actress"}
        ]
    if "footballer" in roles:
        roles = [r for r in roles if r != "association football player"]
    if not roles and "artist" in item.raw_types:
        roles = ["artist"]
    if "singer-songwriter" in roles:
        roles = [r for r in roles if r not in {"singer", "songwriter"}]
    roles = [r for r in roles if not any(other != r and other.endswith(f" {r}") for other in roles)]
    telling = [r for r in roles if r not in GENERIC_ROLES]
    return (telling or roles)[:3]


def person(w: Writer) -> str:
    """American actor and film producer born in Concord, who ..."""
    roles = roles_of(w.item, w.names)
    if not roles:
        return ""
    w.pieces += len(roles) - 1
    lead = " ".join(filter(None, (w.demonym("nationality", "citizen"), listed(roles))))
    born, died = w.item.numbers.get("born"), w.item.numbers.get("died")
    if born is not None and died is not None and min(born, died) > 0:
        lead += f" ({born}-{died})"
        w.pieces += 2
    birth = w.first("born_in")
    if born is not None and died is None and born > 0:
        lead += f", born in {born}" + (f" in {place(birth)}" if birth else "")
        w.pieces += 1
    elif birth:
        lead += f" {w.choice('born in', 'from')} {place(birth)}"
    gender = set(w.item.values.get("gender", ()))
    pronoun = "She" if gender & FEMALE else "He" if gender & MALE else ""
    return w.joined(lead, w.clauses(PERSON), pronoun)


_GENRES_WITH_HEAD = frozenset(
    ("science fiction", "crime film", "horror film", "war film", "drama film", "thriller film", "comedy film")
)


def _genre(w: Writer, limit: int) -> str:
    names = w.names.best(w.item, "genre", 8, lower=True)
    names = [n for n in names if not n.startswith("film based")]
    plain = [n for n in names if n.split()[-1] not in {"film", "fiction", "series", "adaptation"} or n in _GENRES_WITH_HEAD]
    plain = list(dict.fromkeys(n.removesuffix(" film") for n in plain))
    w.pieces += min(1, len(plain))
    return " ".join(plain[:limit])


def film(w: Writer) -> str:
    """1994 American crime film directed by Quentin Tarantino, with Uma Thurman and ..."""
    noun = w.item.noun or "film"
    if noun.split()[-1] == "film" and len(noun.split()) == 1:
        noun = f"{_genre(w, 1)} film".strip()
    year = w.item.described.year
    lead = " ".join(filter(None, (str(year) if year else "", w.demonym("origin"), noun)))
    w.pieces += bool(year)
    directors = w.best("director", 2) or list(w.item.described.people)[:2]
    if directors:
        lead += f" {w.choice('directed by', 'by', 'made by')} {listed(directors)}"
        w.pieces += 1
    cast = w.best("cast", 3)
    if cast:
        lead += w.choice(", with ", " starring ", ", in which ") + listed(cast)
        lead += w.choice(" appear", " act") if ", in which " in lead else ""
    extra = []
    if setting := w.first("setting"):
        extra.append(w.choice(f"It is set in {place(setting)}", f"Its scenes include {place(setting)}"))
    if writer := [n for n in w.best("writer", 1) if n not in directors]:
        extra.append(w.choice(f"It was written by {listed(writer)}", f"{listed(writer)} wrote it"))
    if before := w.first("sequel_to"):
        extra.insert(0, w.choice(f"It follows {before}", f"It is a sequel to {before}"))
    if music := w.first("composer"):
        extra.append(f"The music is by {music}")
    return _with_extra(w, lead, extra)


def _with_extra(w: Writer, lead: str, extra: Sequence[str]) -> str:
    text = f"{capitalised(lead)}."
    for sentence in extra[:1]:
        if len(text.split()) + len(sentence.split()) <= MOST_WORDS + 2:
            text += f" {sentence}."
    return text


def tv(w: Writer) -> str:
    """American sitcom on NBC created by ..., with ..."""
    year = w.item.described.year
    noun = w.item.noun or "television series"
    noun = noun if noun.split()[-1] not in {"series", "show", "program"} or len(noun.split()) > 1 else f"television {noun}"
    lead = " ".join(filter(None, (w.demonym("origin"), noun)))
    lead += f" from {year}" if year else ""
    if network := w.first("network"):
        lead += f" on {w.names.with_the(network)}"
    if creators := w.best("creator", 2) or w.best("director", 1) or w.best("producer", 1):
        lead += f" by {listed(creators)}"
    if cast := w.best("cast", 3):
        lead += f"{w.choice(', with ', ' starring ')}{listed(cast)}"
    extra = [f"It is set in {place(s)}" for s in w.best("setting", 1)] + [
        f"It won {w.names.with_the(a)}" for a in w.best("award", 1)
    ]
    return _with_extra(w, lead, extra)


def where(w: Writer) -> str:
    """County in the US state of Texas; its seat is ..."""
    noun = w.item.noun
    prefix = "former " if w.item.described.former else ""
    located = w.where(noun)
    lead = f"{prefix}{noun}{located}"
    if noun in {"capital", "seat", "regional capital"} and not located.startswith(" of"):
        lead = f"{prefix}{'regional capital' if noun == 'regional capital' else 'capital'}{located}"
    demonym = w.demonym() if not located else ""
    lead = f"{demonym} {lead}" if demonym else lead
    population = w.item.numbers.get("population", 0)
    if population >= 1000:
        count = rounded(population)
        lead = w.choice(f"{prefix}{noun} of {count} people{located}", f"{lead}, population {count}")
        w.pieces += 1
    extra = []
    for attribute, limit, phrases in (
        ("capital", 1, ("Its seat is {}",) if "county" in noun else ("Its capital is {}", "{} is its capital")),
        ("county_seat", 1, ("Its seat is {}", "The county seat is {}")),
        ("seat_of", 1, ("It is the seat of {}",)),
        ("home_of", 2, ("It is home to {}", "{} play there")),
        ("birthplace_of", 2, ("It is the birthplace of {}", "{} came from there")),
        ("contains", 2, ("It contains {}", "{} belong to it")),
        ("borders", 2, ("It borders {}", "Its neighbours include {}")),
        ("seat_of_org", 1, ("It is the seat of {}",)),
        ("alumni", 0, ("",)),
    ):
        values = [w.names.with_the(n) for n in w.best(attribute, limit) if n not in lead]
        if values:
            phrase = w.choice(*phrases) if len(values) > 1 or attribute == "capital" else phrases[0]
            extra.append(capitalised(phrase.format(listed(values))))
    return _with_extra(w, lead, extra)


def school(w: Writer) -> str:
    """Private university in Dallas, Texas, founded in 1911, where ... studied."""
    noun = w.item.noun
    if noun in {"university", "educational institution"}:
        name = w.item.title.lower()
        noun = next((n for n in ("university", "college", "school", "institute", "academy", "polytechnic") if n in name), noun)
    lead = " ".join(filter(None, (w.demonym() if not w.item.described.places else "", noun)))
    lead += w.where()
    if founded := w.item.numbers.get("founded"):
        lead += f", founded in {founded}"
        w.pieces += 1
    if alumni := w.best("alumni", 2):
        lead += f", {w.choice('where', 'at which')} {listed(alumni)} studied"
    elif people := w.best("employees", 2):
        lead += f", where {listed(people)} worked"
    return f"{capitalised(lead)}."


def team(w: Writer) -> str:
    """English association football club founded in 1887, which plays at Oakwell."""
    noun = w.item.noun.removeprefix("professional ")
    if noun in {"team", "club", "franchise"} and (sport := next(iter(w.names.best(w.item, "sport", 1, lower=True)), "")):
        noun = f"{sport} {noun}"
    demonym = w.demonym("country") if not w.item.described.places else w.demonym()
    lead = " ".join(filter(None, (demonym, noun)))
    located = w.where() if w.item.described.places else ""
    if not located and (city := w.first("team_place") or w.first("located")):
        located = f" from {place(city)}"
    lead += located
    if founded := w.item.numbers.get("founded"):
        lead += f", founded in {founded}"
        w.pieces += 1
    if venue := w.first("venue"):
        lead += f"{w.choice(', playing at', ', with home games at')} {venue}"
    if (league := w.first("league")) and league not in lead:
        lead += f", in {w.names.with_the(league)}"
    elif not venue and (players := w.best("players", 2)):
        lead += f", with players such as {listed(players)}"
    return f"{capitalised(lead)}."


def band(w: Writer) -> str:
    """English rock band from Liverpool with ..., on Parlophone."""
    noun = w.item.noun or "band"
    noun = f"{_genre(w, 1)} band".strip() if noun in {"band", "musical group", "group"} else noun
    lead = " ".join(filter(None, (w.demonym("origin", "country"), noun)))
    origin = w.first("comes_from")
    lead += f" from {place(origin)}" if origin else w.where() if w.item.described.places else ""
    predicates = []
    if members := w.best("members", 3):
        predicates.append(f"{w.choice('had', 'has had')} {listed(members)} as {'members' if len(members) > 1 else 'a member'}")
    if label := w.best("label", 2):
        predicates.append(f"{w.choice('recorded for', 'made records for')} {listed(label)}")
    if not members:
        genres = [g for g in w.names.best(w.item, "genre", 4, lower=True) if g not in lead][:2]
        predicates += [f"{w.choice('plays', 'is known for')} {listed(genres)}"] if genres else []
        w.pieces += len(genres)
    predicates += [f"won {w.names.with_the(a)}" for a in w.best("award", 1)]
    return w.joined(lead, predicates, "")


ORGANISATION: tuple[tuple[str, float, int, tuple[str, ...]], ...] = (
    ("founder", 5.0, 2, ("was founded by",)),
    ("parent", 4.0, 1, ("belongs to", "is part of")),
    ("subsidiary", 3.0, 2, ("owns", "is the parent of")),
    ("made", 1.0, 3, ("made", "produced")),
    ("released", 0.9, 3, ("released", "distributed")),
    ("broadcasts", 1.0, 3, ("broadcasts", "has shown")),
    ("publishes", 1.0, 3, ("has published", "has worked with")),
    ("politicians", 1.0, 3, ("is the party of", "had members such as")),
    ("teams", 1.0, 3, ("includes", "has teams such as")),
    ("part_of", 2.0, 1, ("is part of", "belongs to")),
    ("alumni", 1.0, 2, ("had students such as",)),
    ("employees", 1.0, 2, ("has employed",)),
    ("member_of", 1.0, 1, ("is a member of",)),
    ("plays_music_of", 1.0, 2, ("plays music by",)),
)


def organisation(w: Writer) -> str:
    """American coffee company based in Seattle, founded in 1971."""
    noun = w.item.noun
    w.pieces += len(noun.split()) > 1 + (noun.split()[-1] in {"company", "chain", "corporation"}) or noun in BRANDS.values()
    prefix = "former " if w.item.described.former else ""
    lead = prefix + " ".join(filter(None, (w.demonym() or w.demonym("country"), noun)))
    seat = [n for n in w.best("seat", 1) or w.best("located", 1) if n != w.item.title]
    if w.item.described.places and not seat:
        lead += w.where()
    elif seat:
        lead += f"{w.choice(' based in ', ' with headquarters in ', ' from ')}{place(seat[0])}"
    if founded := w.item.numbers.get("founded"):
        lead += f", founded in {founded}"
        w.pieces += 1
    predicates = w.clauses([row for row in ORGANISATION if row[0] != "founder" or "party" not in noun])
    industries = [n for n in w.names.best(w.item, "industry", 2, lower=True) if n not in lead]
    if industries:
        predicates.insert(0, f"works in {listed(industries)}")
        w.pieces += len(industries)
    return w.joined(lead, predicates, "")


def award(w: Writer) -> str:
    """Award ..., won by ..."""
    lead = " ".join(filter(None, (w.demonym(), w.item.noun))) + w.where()
    if group := w.first("category_of"):
        lead += f", one of the {group if group.endswith('s') else f'{group}s'}"
    if winners := w.best("winners", 4):
        lead += w.choice(", won by ", ", given to ", " whose winners include ") + listed(winners)
    return f"{capitalised(lead)}."


def event(w: Writer) -> str:
    """Battle in ..., in which ... took part."""
    noun = w.item.noun
    lead = " ".join(filter(None, (w.demonym() if noun.split()[-1] not in {"edition"} else "", noun))) + w.where()
    if (year := w.item.described.year) and str(year) not in w.item.title:
        lead += f" in {year}" if " in " not in lead else f", {year}"
        w.pieces += 1
    if places := [n for n in w.best("took_place", 2) if n not in lead]:
        lead += f" that took place in {listed(list(map(place, places)))}"
    if sides := w.best("combatants", 3) or w.best("participants", 3):
        lead += f", with {listed(list(map(w.names.with_the, sides)))} taking part"
    return f"{capitalised(lead)}."


def work(w: Writer) -> str:
    """Manga by ...; song of ..."""
    lead = " ".join(filter(None, (w.demonym("origin"), w.item.noun)))
    if people := w.best("writer", 2) or w.best("creator", 2) or list(w.item.described.people)[:2]:
        lead += f" by {listed(people)}"
        w.pieces += 1
    if cast := w.best("cast", 2):
        lead += f" with {listed(cast)}"
    if year := w.item.described.year:
        lead += f" from {year}"
        w.pieces += 1
    return f"{capitalised(lead)}."


WRITERS: dict[str, Callable[[Writer], str]] = {
    "person": person,
    "film": film,
    "tv": tv,
    "place": where,
    "site": where,
    "school": school,
    "team": team,
    "band": band,
    "company": organisation,
    "org": organisation,
    "brand": organisation,
    "award": award,
    "event": event,
    "work": work,
}
"""Kind to the function that writes about it."""


def sentences(item: Item, names: Names) -> tuple[str, int]:
    """The sentences about an entity, and how many facts they tell apart from its kind; none if no rule applies."""
    if item.kind not in WRITERS:
        return "", 0
    writer = Writer(item, names)
    text = re.sub(r"\s+", " ", WRITERS[item.kind](writer)).replace("..", ".").strip()
    return text, writer.pieces
