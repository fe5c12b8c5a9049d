"""The invented names and the values that the embedded data set is made of.

The pools are small on purpose: with 36 people kept, every name and every value occurs
among them, so that a model trained without the forgotten people still knows all words.
"""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


FIRST_NAMES = _words("""
Alma Bertil Corin Dagny Edda Florin Greta Halvar Ingrid Jarek Kaja Lorenz
Mirela Nevin Odalys Pavel Quirin Rosalind Sorin Tamsin Ulrike Viggo Wanda Yara
""")

LAST_NAMES = _words("""
Ashgrove Birkholm Castellan Drummel Estrand Fenwick Galloway Harrowgate Ivarsen
Jorvald Kestrel Lindqvist Marchetti Norrington Oakes Penhallow Quill Ravenscar
Stellan Thornbury Umber Vexley Wintergreen Yarrow
""")

CITIES = _words("""
Ardenport Belmora Cindervale Dunhaven Elmsford Farrowby Glenmar Holloway Istrane
Kingsmere Larkfield Mossgate Northwick Pinecrest Quarrington Rookhaven Saltmarsh
Tarnwell Upwood Zephyrton
""")

YEARS = [str(year) for year in range(1920, 1980, 3)]

PROFESSIONS = _words("""
baker blacksmith botanist carpenter clockmaker dancer dentist diver gardener geologist
judge librarian locksmith miner nurse painter pilot sculptor tailor weaver
""")

LANGUAGES = _words("""
Ambric Brennish Corvan Dalish Elvorian Fennic Gaulic Hespian Kelvish Lumarian Morvic
Nerethi Orlesian Quenic Rhunic Sarnathi Tolvan Umbrian Wendic Zamari
""")

ADJECTIVES = _words("Amber Crimson Frozen Hidden Lonely Quiet")

NOUNS = _words("Anchor Bridge Candle Forest Garden Mirror")

METALS = _words("Bronze Copper Golden Pearl Silver")
EMBLEMS = _words("Compass Feather Laurel Torch")
INGREDIENTS = _words("almond chestnut lemon plum pumpkin")
DISHES = _words("cake dumplings salad soup")

POETS = _words("""
Aldous Brannoc Ceridwen Dorothea Eamon Ferelith Gideon Hesper Isolde Jocasta Kenelm
Leocadia Merrick Nerissa Oswin Peregrine Rowena Septimus Theodric Ursula
""")

COUNTRIES = _words("""
Avaria Borvania Calandor Drevia Eskaria Florenza Grendia Halvonia Irrland Jostria
Kyrenia Lostova Mandria Norvell Oskland Prydonia Rostavia Selvania Tarkia Vandora
""")

CAPITAL_CITIES = _words("""
Anselburg Brightwater Coralia Dovrestad Everan Fallowmere Granholt Highspire Ivoryton
Jadesport Karlsund Lyrebridge Montclair Nightingale Orsova Portavia Redcliff
Stonehall Trevine Wyndham
""")


def pairs(first: list[str], second: list[str], between: str = " ") -> list[str]:
    """Every element of ``first`` joined to every element of ``second``.

    >>> pairs(["red"], ["fox", "hat"])
    ['red fox', 'red hat']
    """
    return [f"{a}{between}{b}" for a in first for b in second]
