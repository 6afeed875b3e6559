# ruff: noqa: SIM905
"""The words of the synthetic world: names, kinds, attributes and values. Plain data; nothing is drawn here."""

from __future__ import annotations

NAMES = tuple(
    """Acorn Alder Amber Anchor Apple Arbour Arrow Ash Aspen Autumn Badger Barley Basin Beacon Bear Beech Birch
    Bishop Bramble Briar Brook Candle Canyon Castle Cedar Cherry Chestnut Clay Clover Cobble Copper Coral Cotton
    Crane Crown Crystal Cypress Daisy Dawn Diamond Dolphin Dove Dragon Eagle Ebony Elder Elm Ember Emerald
    Falcon Fern Fir Flint Forest Fountain Fox Garnet Ginger Glacier Golden Granite Grove Harvest Hawk
    Hawthorn Hazel Heather Heron Hickory Hollow Holly Honey Indigo Iris Iron Island Ivory Ivy Jade Jasmine
    Juniper King Kite Lake Lantern Lark Laurel Lavender Lemon Lily Linden Lion Lotus Magpie Maple Marble
    Marigold Meadow Mint Mirror Moss Mountain Myrtle Nettle Oak Olive Opal Orchard Orchid Osprey
    Otter Owl Palm Park Peach Pearl Pebble Pepper Pine Plum Poplar Poppy Prairie Quarry Quartz Queen Quill Rain
    Raven Reed Ridge River Robin Rose Rowan Ruby Saffron Sage Salmon Sand Sapphire Shadow Silver Sparrow Spring
    Spruce Star Stone Storm Summer Summit Sun Swallow Swan Thistle Thorn Thunder Tiger Topaz Tulip Valley Velvet
    Vine Violet Walnut Water Wheat Willow Winter Wolf Wren Yew Zephyr""".split()
)
KINDS = tuple(
    """Bridge Tower Library Museum School Theatre Station Hospital Factory Stadium Market Hotel Harbour Mill
    Garden Archive College Chapel Gallery Airport""".split()
)
_FIRST_NAMES = tuple(
    """Anna Boris Clara David Emma Felix Greta Hugo Irene Jonas Karin Lukas Marta Nils Olga Peter Rita Simon
    Tanja Ulrik Vera Walter Yvonne Zara Adam Berta Carl Dora Erik Frida""".split()
)
_LAST_NAMES = tuple(
    """Abel Baker Carter Dahl Ekman Fischer Graham Hansen Ibsen Jensen Keller Larsen Meyer Norden Olsen Palmer
    Quist Roberts Sander Turner Ullman Vogel Weber Young Zeller Archer Bennet Cooper Dixon Evans Foster Gardner
    Hughes Irving Jordan Knight Lambert Morgan Nash Osborne""".split()
)
_TOWNS = tuple(
    """Aldbury Barford Colmere Dunwick Eastham Farley Gilton Hadleigh Ilford Kelby Langport Marlow Norwick
    Oakham Penrith Ripley Selby Tarrant Upton Warwick Ashby Bexley Crofton Dalton Elmswell Frome Grantham Hexham
    Ilkley Kendal Ludlow Malvern Newport Otley Preston Redcar Skipton Thirsk Ventnor Whitby""".split()
)
_COLOURS = tuple("red blue green yellow white black grey brown orange purple pink crimson".split())
_MATERIALS = tuple("brick granite timber steel concrete glass marble slate sandstone bronze copper limestone".split())
_ANIMALS = tuple("lion bear stag horse eagle otter swan wolf hare owl pike fox".split())
NUMBERS = tuple(str(n) for n in range(10, 400))
YEARS = tuple(str(n) for n in range(1800, 2000))

UNITS = {
    "height": "metres", "length": "metres", "width": "metres", "depth": "metres", "weight": "tonnes",
    "area": "hectares",
    "cost": "crowns", "budget": "crowns", "income": "crowns", "capacity": "seats", "staff": "people", "stock": "books",
}  # fmt: skip
_PERSONS = ("architect", "owner", "manager", "founder", "engineer", "keeper")
_WORD_VALUES = {
    "opening": YEARS, "renewal": YEARS, "town": _TOWNS, "district": _TOWNS, "colour": _COLOURS, "material": _MATERIALS,
    "symbol": _ANIMALS, "mascot": _ANIMALS,
}  # fmt: skip
ATTRIBUTES = (*UNITS, *_PERSONS, *_WORD_VALUES)

PEOPLE = (_FIRST_NAMES, _LAST_NAMES)
WORD_VALUES = _WORD_VALUES
FILLERS = (
    "According to the records, it was checked by {person}.",
    "Please note that visitors are welcome on Monday.",
    "For details see the register of {town}.",
    "Our ledger says nothing more about it.",
    "It is known to all people of {town}.",
    "Answer letters are sent in {year}.",
    "The report names {person} as a friend of the house.",
    "We thank {person} for the record.",
)
STATEMENTS = (
    "The {attribute} of {entity} is {value}.",
    "{entity} lists its {attribute} as {value}.",
    "At {entity}, the {attribute} is {value}.",
    "Its {attribute} is {value}.",
)
QUESTIONS = (
    "What is the {attribute} of {entity}?",
    "Which {attribute} does {entity} have?",
    "Tell me the {attribute} of {entity}.",
    "For {entity}, what is the {attribute}?",
)
OTHER_WORDS = tuple(
    """Question Answer I cannot answer this from the documents documents . , ? : ! ; - ' ( ) recorded Recorded
    noted value Value says stated Stated total about In in on by and or not no yes Yes No Source source sources
    register Register entry Entry reads as given Given house The A a is are was were has have with to of for at
    it It its our we be can according records note please thanks Thank you Dear reader Record record found
    nothing known number amounts comes measured Result result answer reply Reply Hello hello who Who when When
    where Where how How many much""".split()
)
