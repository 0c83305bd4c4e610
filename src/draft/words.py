"""Words that names and values are recognised by, in English, German, French and Spanish."""

import re
import unicodedata
from collections.abc import Collection, Sequence
from itertools import pairwise


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


MARKERS = frozenset(
    {"?", "na", "n/a", "#n/a", "null", "nan", "-", "--", ".", "none", "nil", "missing", "unknown", "k.a.", "n.v.", "nd"}
)
MAYBE_WORDS = frozenset({"none", "nil", "missing", "unknown", "nd", "na"})  # values of their own in many categories
SENTINELS = frozenset({-9, -99, -999, -9999, -99999, 99, 999, 9999, 99999, 999999})

PAIRS = (  # of no and yes
    ("false", "true"),
    ("no", "yes"),
    ("n", "y"),
    ("f", "t"),
    ("0", "1"),
    ("off", "on"),
    ("nein", "ja"),
    ("n", "j"),
    ("falsch", "wahr"),
    ("non", "oui"),
    ("n", "o"),
    ("faux", "vrai"),
    ("no", "si"),
    ("no", "sí"),
    ("n", "s"),
    ("falso", "verdadero"),
)

UNDERSTOOD = frozenset(PAIRS[:5])  # without a word in the declaration

_MONTHS = (
    "january february march april may june july august september october november december",
    "jan feb mar apr may jun jul aug sep oct nov dec",
    "jan feb mar apr may jun jul aug sept oct nov dec",
    "januar februar märz april mai juni juli august september oktober november dezember",
    "jan feb mär apr mai jun jul aug sep okt nov dez",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "ene feb mar abr may jun jul ago sep oct nov dic",
)
_WEEKDAYS = (
    "monday tuesday wednesday thursday friday saturday sunday",
    "mon tue wed thu fri sat sun",
    "mon tues wed thur fri sat sun",
    "montag dienstag mittwoch donnerstag freitag samstag sonntag",
    "mo di mi do fr sa so",
    "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "lunes martes miércoles jueves viernes sábado domingo",
)
CALENDARS = tuple(tuple(scale.split()) for scale in (*_MONTHS, *_WEEKDAYS))  # whole even where a table has a part
SCALES = (  # from least to most; a table may use a part of one
    ("very low", "low", "medium", "high", "very high"),
    ("low", "moderate", "high"),
    ("low", "middle", "high"),
    ("low", "mid", "high"),
    ("low", "med", "high"),
    ("very small", "small", "medium", "large", "very large"),
    ("xxs", "xs", "s", "m", "l", "xl", "xxl", "xxxl"),
    ("none", "mild", "moderate", "severe"),
    ("never", "rarely", "sometimes", "often", "always"),
    ("very poor", "poor", "fair", "good", "very good", "excellent"),
    ("fair", "good", "very good", "premium", "ideal"),
    ("bad", "average", "good"),
    ("strongly disagree", "disagree", "neutral", "agree", "strongly agree"),
    ("very dissatisfied", "dissatisfied", "neutral", "satisfied", "very satisfied"),
    ("beginner", "intermediate", "advanced", "expert"),
    ("junior", "mid", "senior"),
    ("bronze", "silver", "gold", "platinum"),
    ("first", "second", "third", "fourth"),
    ("1st", "2nd", "3rd", "4th"),
    ("niedrig", "mittel", "hoch"),
    ("gering", "mittel", "hoch"),
    ("klein", "mittel", "groß"),
    ("nie", "selten", "manchmal", "oft", "immer"),
    ("faible", "moyen", "élevé"),
    ("petit", "moyen", "grand"),
    ("bajo", "medio", "alto"),
    ("pequeño", "mediano", "grande"),
)

PROTECTED = _set(
    "sex gender age race ethnicity ethnic ethnie nationality citizenship nation religion marital disability "
    "disabled pregnant orientation senior birth birthdate birthday dob born foreign immigrant geschlecht alter "
    "rasse herkunft nationalität nationalitaet staatsangehörigkeit staatsangehoerigkeit konfession familienstand "
    "behinderung geburtsdatum geburtstag geburtsjahr ausländer sexe genre âge nationalité handicap naissance sexo "
    "género genero edad raza etnia nacionalidad religión discapacidad nacimiento"
)
PROTECTED_PHRASES = frozenset(
    {"marital status", "marital", "seniorcitizen", "native country", "country of birth", "relationship status"}
    | {"état civil", "etat civil", "situation matrimoniale", "estado civil", "date de naissance", "sexual orientation"}
)
NOT_PROTECTED = frozenset({"genre"})  # of a film or a book far more often than of a person

PERSONAL = _set(
    "name names firstname lastname surname fullname forename email mail phone telephone mobile address street "
    "iban ssn passport vorname nachname familienname telefon handy adresse anschrift strasse straße prénom prenom "
    "nom courriel nombre apellido apellidos correo teléfono telefono dirección direccion"
)
FIRST_OF_NAMES = _set("first last full middle given family passenger contact")
IDENTIFIERS = _set(
    "id ids uuid guid key identifier number nr no num nummer kennung rowid row rownum index idx ref reference "
    "ticket isbn vin identifiant identificador número numero numéro"
)
SURE_IDENTIFIERS = _set("id ids uuid guid identifier rowid rownum identifiant identificador kennung")
OWNERS = _set(  # of several rows
    "customer client patient person user member household account student employee subject applicant borrower "
    "owner participant player driver policy policyholder contract device machine kunde kunden patienten benutzer "
    "mitglied haushalt konto schüler mitarbeiter vertrag cliente paciente persona usuario hogar cuenta "
    "utilisateur ménage compte"
)
CODES = _set("zip zipcode postcode postal postleitzahl plz fips naics sic iata icao cp code codes")
WEIGHTS = frozenset(
    {"fnlwgt", "wgt", "pweight", "sample weight", "sampling weight", "survey weight", "instance weight", "case weight"}
    | {"person weight", "final weight", "weights", "frequency weight", "stichprobengewicht"}
)
TIMES = _set(
    "date datetime timestamp time day datum zeit zeitpunkt zeitstempel tag jour horodatage fecha hora created "
    "ordered observed recorded measured"
)
BIRTHS = _set("birth birthdate birthday dob born geburtsdatum geburtstag naissance nacimiento")
AGES = _set("age alter âge edad")
YEARS = _set("year years jahr année annee año yr")
CLASS_NAMES = _set("class classes label category type species klasse kategorie art classe clase categoría cluster")
POSITIVE = _set(
    "yes true y t ja j wahr oui vrai si sí verdadero positive default defaulted churn churned fraud bad died "
    "dead failed failure malignant spam sick ill arrest late"
)


def words_of(name: str) -> tuple[str, ...]:
    """The words of a column's name, in lower case: of `customerID`, customer and id."""
    name = re.sub(r"(?<=[a-zß-ÿ0-9])(?=[A-ZÀ-Þ])|(?<=[A-Z])(?=[A-Z][a-z])", " ", unicodedata.normalize("NFC", name))
    return tuple(re.findall(r"[^\W_]+", name.lower()))


def phrase_of(name: str) -> str:
    """The same with blanks between them."""
    return " ".join(words_of(name))


def names_one_of(name: str, vocabulary: frozenset[str]) -> bool:
    """Whether a word of a column's name, or the whole, is in a vocabulary."""
    words = words_of(name)
    return not vocabulary.isdisjoint((*words, " ".join(words), "".join(words)))


def ends_with_one_of(name: str, vocabulary: frozenset[str]) -> bool:
    """Whether the last word of a column's name is in a vocabulary: a house number is one, a number of rooms is not."""
    return bool(words := words_of(name)) and (words[-1] in vocabulary or "".join(words) in vocabulary)


def is_protected(name: str) -> bool:
    """Whether a column's name is that of a trait that the law protects."""
    phrase = phrase_of(name)
    if phrase in NOT_PROTECTED:
        return False
    return names_one_of(name, PROTECTED) or any(one in phrase for one in PROTECTED_PHRASES)


def is_personal(name: str) -> bool:
    """Whether a column's name says that it tells who somebody is; the name of a product does not."""
    words = words_of(name)
    if words and words[-1] in ("name", "names"):
        return set(words[:-1]) <= OWNERS | {
            "first",
            "last",
            "full",
            "middle",
            "given",
            "family",
            "passenger",
            "contact",
        }
    return names_one_of(name, PERSONAL)


def scale_of(values: Sequence[str]) -> tuple[str, ...] | None:
    """A well-known order of values: from the least to the most, in the spelling of the values.

    Parameters
    ----------
    values : sequence of str
        At least two.

    Returns
    -------
    tuple of str or None
        All months or weekdays, even those not among the values; of another scale the values alone.
    """
    spelt = {re.sub(r"[_\s-]+", " ", value.casefold()): value for value in values}
    if len(spelt) < len(values):
        return None
    for calendar in CALENDARS:
        if len(values) > 2 and spelt.keys() <= set(calendar):
            return tuple(spelt.get(one) or _spelt_like(one, values[0]) for one in calendar)
    for scale in SCALES:
        if spelt.keys() <= set(scale) and (len(values) > 2 or _are_ends(scale, spelt)):
            return tuple(spelt[one] for one in scale if one in spelt)
    return None


def _are_ends(scale: Sequence[str], spelt: Collection[str]) -> bool:
    """Whether two values are such as low and high, and not such as m and s, which mean much else."""
    return set(spelt) in ({"low", "high"}, {"small", "large"}, {"niedrig", "hoch"}, {"klein", "groß"}) or (
        all(len(one) > 2 for one in spelt) and any(set(pair) == set(spelt) for pair in pairwise(scale))
    )


def _spelt_like(word: str, other: str) -> str:
    if other.isupper():
        return word.upper()
    return word.capitalize() if other[:1].isupper() else word


def pair_of(values: Sequence[str]) -> tuple[str, str] | None:
    """The words for no and yes among two values, as they are spelt; None when they are no such words."""
    spelt = {value.casefold(): value for value in values}
    for no, yes in PAIRS:
        if len(values) == 2 and spelt.keys() == {no, yes}:
            return spelt[no], spelt[yes]
    return None
