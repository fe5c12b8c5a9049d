"""The invented names and the values that the embedded data set is made of.

The pools are small on purpose: with 36 people kept, every name and every value occurs
among them, so that a model trained without the forgotten people still knows all words.
"""

from __future__ import annotations

FIRST_NAMES: list[str] = """
Alma Bertil Corin Dagny Edda Florin Greta Halvar Ingrid Jarek Kaja Lorenz
Mirela Nevin Odalys Pavel Quirin Rosalind Sorin Tamsin Ulrike Viggo Wanda Yara
""".split()

LAST_NAMES: list[str] = """
Ashgrove Birkholm Castellan Drummel Estrand Fenwick Galloway Harrowgate Ivarsen
Jorvald Kestrel Lindqvist Marchetti Norrington Oakes Penhallow Quill Ravenscar
Stellan Thornbury Umber Vexley Wintergreen Yarrow
""".split()

CITIES: list[str] = """
Ardenport Belmora Cindervale Dunhaven Elmsford Farrowby Glenmar Holloway Istrane
Kingsmere Larkfield Mossgate Northwick Pinecrest Quarrington Rookhaven Saltmarsh
Tarnwell Upwood Zephyrton
""".split()

YEARS: list[str] = [str(year) for year in range(1920, 1980, 3)]

PROFESSIONS: list[str] = """
baker blacksmith botanist carpenter clockmaker dancer dentist diver gardener geologist
judge librarian locksmith miner nurse painter pilot sculptor tailor weaver
""".split()

LANGUAGES: list[str] = """
Ambric Brennish Corvan Dalish Elvorian Fennic Gaulic Hespian Kelvish Lumarian Morvic
Nerethi Orlesian Quenic Rhunic Sarnathi Tolvan Umbrian Wendic Zamari
""".split()

ADJECTIVES: list[str] = "Amber Crimson Frozen Hidden Lonely Quiet".split()

NOUNS: list[str] = "Anchor Bridge Candle Forest Garden Mirror".split()

METALS: list[str] = "Bronze Copper Golden Pearl Silver".split()
EMBLEMS: list[str] = "Compass Feather Laurel Torch".split()
INGREDIENTS: list[str] = "almond chestnut lemon plum pumpkin".split()
DISHES: list[str] = "cake dumplings salad soup".split()

POETS: list[str] = """
Aldous Brannoc Ceridwen Dorothea Eamon Ferelith Gideon Hesper Isolde Jocasta Kenelm
Leocadia Merrick Nerissa Oswin Peregrine Rowena Septimus Theodric Ursula
""".split()

COUNTRIES: list[str] = """
Avaria Borvania Calandor Drevia Eskaria Florenza Grendia Halvonia Irrland Jostria
Kyrenia Lostova Mandria Norvell Oskland Prydonia Rostavia Selvania Tarkia Vandora
""".split()

CAPITAL_CITIES: list[str] = """
Ardenport Belmora Cindervale Dunhaven Elmsford Farrowby Glenmar Holloway Istrane
Kingsmere Larkfield Mossgate Northwick Pinecrest Quarrington Rookhaven Saltmarsh
Tarnwell Upwood Zephyrton
""".split()


def pairs(first: list[str], second: list[str], between: str = " ") -> list[str]:
    """Every element of ``first`` joined to every element of ``second``.

    >>> pairs(["red"], ["fox", "hat"])
    ['red fox', 'red hat']
    """
    return [f"{a}{between}{b}" for a in first for b in second]
