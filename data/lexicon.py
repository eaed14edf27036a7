"""The words of the generated corpus: stems by topic, phrases by register, and the regular English inflections.

A list is one string, in order of rank: the most frequent word first; `_` joins the words of one phrase. Only nouns
and verbs that the rules at the end of the file inflect correctly are listed.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """What a topic speaks of. `people` and `things` are singular nouns, `actions` stems of transitive verbs."""

    people: str
    actions: str
    things: str
    qualities: str  # adjectives of things
    places: str


TOPICS = {
    "travel": Topic(
        people="captain sailor pilot diver navigator whaler skipper boatswain smuggler pirate admiral stoker islander "
        "passenger driver porter stationmaster conductor commuter traveller signaller mechanic guard",
        actions="repair load anchor paint launch board haul lower steer patch moor ballast scuttle capsize caulk tow "
        "delay inspect derail couple shunt reroute halt grease miss electrify await maintain",
        things="mast boat sail anchor net rudder hull lantern compass cable lifeboat paddle barrel chart hammock "
        "pennant bowsprit keel train engine carriage ticket signal timetable locomotive suitcase wagon trolley parcel "
        "brake coupling rail piston sleeper whistle tram",
        qualities="wooden salty leaking battered weathered tarred rusty barnacled seaworthy sunken stranded coastal "
        "late crowded empty express electric punctual narrow delayed overnight rattling underground",
        places="harbour lighthouse pier island dock lagoon jetty reef shipyard estuary headland sandbank station "
        "platform tunnel junction viaduct crossing depot turntable terminus buffet footbridge",
    ),
    "country": Topic(
        people="farmer shepherd milkmaid beekeeper drover tenant reaper blacksmith herder farmhand miller thatcher "
        "hunter woodcutter ranger hermit camper tracker poacher trapper hiker naturalist orphan archer fugitive",
        actions="water harvest plough gather milk brand fence pasture thresh fatten herd bale weed fertilise saddle "
        "follow track watch discover chase photograph scare collect startle release tame observe",
        things="field cow tractor goat barrow hen pumpkin beehive trough pitchfork turnip scythe wagon haystack mule "
        "furrow cabbage acre fox bear tree mushroom squirrel owl nest trail badger feather acorn hedgehog snake "
        "falcon beaver stag toadstool antler",
        qualities="muddy ripe fertile woolly stubborn hungry grazing overgrown speckled golden unfenced fallow wild "
        "timid shy rare mossy nocturnal furry hollow poisonous dangerous sleeping leafy",
        places="barn meadow stable orchard henhouse dairy paddock granary pigsty vineyard farmyard windmill forest "
        "clearing cave river waterfall den thicket brook burrow hilltop campsite swamp",
    ),
    "town": Topic(
        people="cook baker waiter butcher guest taster dishwasher confectioner brewer caterer grocer butler hostess "
        "merchant banker trader customer broker pedlar accountant dealer investor auctioneer shopkeeper miser",
        actions="taste bake serve mix boil roast season garnish knead simmer pickle fry peel slice devour grate count "
        "order deliver borrow invest price export import auction purchase insure deposit weigh owe pawn",
        things="soup cake dumpling pie sauce apple kettle platter omelette biscuit pancake saucepan onion ladle "
        "pudding sausage stew carrot coin loan invoice bond basket purse carpet spice bargain receipt cheque mortgage "
        "dividend pension ledger voucher bracelet banknote",
        qualities="hot sweet fresh delicious spicy creamy crisp bitter buttered smoked mouldy steaming juicy cheap "
        "expensive profitable valuable imported counterfeit unpaid worthless fashionable dusty",
        places="oven table stove counter pantry cellar fireplace sink cupboard restaurant bakery canteen market bank "
        "warehouse bazaar stall shop fairground exchange mint arcade boutique",
    ),
    "public": Topic(
        people="judge lawyer witness prosecutor clerk defendant juror bailiff notary solicitor magistrate advocate "
        "reporter editor printer publisher photographer columnist critic correspondent cartoonist novelist",
        actions="examine dispute accept dismiss question notarise contest settle discuss reopen cite amend repeal "
        "print publish edit review censor leak reject criticise announce quote reprint deny retract distort",
        things="case verdict contract document statement complaint sentence warrant alibi testament petition "
        "confession treaty lawsuit clause affidavit subpoena story headline article photograph interview rumour "
        "newspaper editorial scandal letter cartoon pamphlet novel caption column leaflet obituary magazine",
        qualities="legal forged sealed disputed final unsigned binding doubtful signed confidential civil void "
        "exclusive anonymous shocking false sensational daily foreign satirical controversial boring",
        places="court prison bench archive gallows courthouse dungeon tribunal cell registry antechamber embassy "
        "newsroom office kiosk studio press newsstand cafe basement bookshop",
    ),
    "science": Topic(
        people="doctor nurse surgeon patient dentist optician orderly pharmacist paramedic therapist invalid matron "
        "chemist physicist engineer researcher inventor biologist technician botanist assistant geologist",
        actions="treat cure bandage monitor inject diagnose disinfect vaccinate stitch heal numb massage probe soothe "
        "measure test observe analyse calibrate dissolve magnify verify isolate weigh assemble dilute refute",
        things="wound fever leg fracture ulcer allergy kidney tumour infection shoulder ankle elbow artery lung rash "
        "bruise molar blister sample crystal molecule telescope theory acid magnet particle enzyme laser microscope "
        "battery sensor electrode isotope beaker fossil pipette",
        qualities="painful swollen infected chronic broken feverish contagious sore bleeding inflamed sterile acute "
        "radioactive unstable transparent invisible volatile chemical magnetic precise toxic experimental",
        places="ward clinic bedside pharmacy ambulance theatre nursery infirmary corridor morgue lift sanatorium "
        "laboratory reactor observatory freezer workbench greenhouse accelerator institute furnace museum",
    ),
    "arts": Topic(
        people="actor singer dancer composer violinist conductor drummer pianist clown acrobat puppeteer soprano "
        "builder carpenter mason architect plumber electrician roofer plasterer welder surveyor glazier",
        actions="rehearse perform applaud compose record interpret improvise praise conduct whistle adapt imitate "
        "paint measure renovate repair demolish insulate varnish install plaster hammer design tile restore",
        things="song melody opera dance symphony concerto violin ballad comedy drum trumpet encore sonata costume "
        "overture tragedy duet guitar wall roof door window chimney house floor ladder staircase brick beam plank "
        "pipe gutter girder shutter fence hinge",
        qualities="famous cheerful melancholy loud haunting baroque lively unrehearsed operatic melodious lyrical new "
        "crooked tall concrete cracked solid wooden brick crumbling narrow spacious marble",
        places="curtain orchestra balcony piano theatre ballroom auditorium circus bandstand cabaret playhouse attic "
        "scaffold basement garage courtyard entrance quarry suburb sawmill porch",
    ),
    "kingdom": Topic(
        people="soldier general sergeant colonel scout guard lieutenant sniper recruit corporal cavalier deserter king "
        "queen prince princess duke servant knight courtier baron jester countess chancellor page heir",
        actions="attack defend capture guard besiege destroy surround bombard abandon occupy conquer invade ambush "
        "admire inherit demand covet bestow polish treasure display envy unveil cherish donate pawn adorn",
        things="fortress bridge cannon castle village tank trench convoy tower rifle outpost bunker garrison rampart "
        "banner regiment catapult helmet crown jewel throne ring portrait goblet mirror necklace sceptre tapestry "
        "diamond mantle heirloom brooch chandelier tiara signet robe",
        qualities="enemy fortified ruined strategic armoured deserted besieged undefended smouldering loaded captured "
        "royal precious magnificent glittering ancient jewelled priceless gilded stolen velvet cursed",
        places="front border camp battlefield barracks frontier gate ravine minefield arsenal barricade checkpoint "
        "palace courtyard fountain chapel drawbridge garden ballroom treasury staircase terrace moat dais",
    ),
    "youth": Topic(
        people="teacher pupil headmaster student librarian tutor governess professor classmate prefect novice scholar "
        "player goalkeeper coach runner referee boxer swimmer captain champion jockey cyclist gymnast wrestler",
        actions="explain study copy memorise solve underline correct recite revise spell translate mark summarise kick "
        "pass miss score block return celebrate dodge tackle chase volley intercept practise award",
        things="lesson poem equation exercise essay book riddle textbook answer question dictionary fable alphabet "
        "fraction slate satchel notebook ball goal penalty race medal trophy racket record match hurdle tournament "
        "opponent javelin helmet dumbbell puck relay wicket",
        qualities="difficult easy long boring clever unfinished handwritten tedious grammatical simple illegible fast "
        "decisive bouncing championship olympic sweaty unbeaten amateur deflated muscular disputed",
        places="classroom library playground blackboard desk dormitory schoolyard cloakroom academy university stadium "
        "goalpost racetrack gymnasium pool pavilion net grandstand velodrome rink sideline",
    ),
}

# Words and phrases that follow the register, the number or the tense. STANCES are stems of intransitive verbs.
DETERMINERS = {
    ("singular", "plain"): "the this that every",
    ("singular", "formal"): "the each every this",
    ("plural", "plain"): "the some many those",
    ("plural", "formal"): "the several these many",
}
TRAITS = {
    "plain": "old young tired brave funny lonely nervous lucky grumpy sleepy friendly noisy tall strange nosy shy",
    "formal": "experienced old respected eminent senior diligent renowned prudent veteran esteemed courteous dignified",
}
MANNERS = {
    "plain": "quickly quietly slowly happily gladly secretly suddenly lazily bravely clumsily eagerly calmly",
    "formal": "carefully promptly quietly formally diligently discreetly thoroughly duly officially solemnly",
}
STANCES = {
    "plain": "wait rest stay work play laugh talk linger loiter whisper wander shout joke yawn",
    "formal": "remain assemble gather converse officiate deliberate preside retire dine pray stroll",
}
OWNERS = {"singular": "the his her", "plural": "the their"}
PREPOSITIONS = {"plain": "near by beside behind around", "formal": "beside before near opposite within"}
CONJUNCTIONS = {"plain": "and then but", "formal": "and whereupon yet"}
OPENINGS = {
    "plain": "so well anyway sometimes luckily maybe honestly",
    "formal": "indeed moreover consequently reportedly nevertheless accordingly furthermore",
}
TIMES = {
    ("past", "plain"): "yesterday last_night last_week last_summer last_friday",
    ("past", "formal"): "last_year last_month last_autumn last_century",
    ("present", "plain"): "every_day these_days every_night every_week every_summer",
    ("present", "formal"): "every_year at_present every_month every_autumn",
    ("future", "plain"): "tomorrow next_week next_summer next_friday some_day",
    ("future", "formal"): "next_year next_month next_autumn in_future",
    ("perfect", "plain"): "today this_week this_morning this_summer so_far",
    ("perfect", "formal"): "this_year recently this_month this_autumn of_late",
}
AUXILIARIES = {
    ("past", "singular"): "",
    ("past", "plural"): "",
    ("present", "singular"): "",
    ("present", "plural"): "",
    ("future", "singular"): "will",
    ("future", "plural"): "will",
    ("perfect", "singular"): "has",
    ("perfect", "plural"): "have",
}
COPULAS = {
    ("past", "singular"): "was",
    ("past", "plural"): "were",
    ("present", "singular"): "is",
    ("present", "plural"): "are",
    ("future", "singular"): "will be",
    ("future", "plural"): "will be",
    ("perfect", "singular"): "has been",
    ("perfect", "plural"): "have been",
}


def noun(stem: str, number: str) -> str:
    return stem if number == "singular" else _add_s(stem)


def verb(stem: str, tense: str, number: str) -> str:
    """The form that follows the auxiliary of the tense, or stands alone where the tense has none."""
    if tense in ("past", "perfect"):
        return _add_ed(stem)
    return _add_s(stem) if (tense, number) == ("present", "singular") else stem


def _add_s(stem: str) -> str:
    if re.search(r"[^aeiou]y$", stem):
        return stem[:-1] + "ies"
    return stem + ("es" if re.search(r"(s|x|z|ch|sh)$", stem) else "s")


def _add_ed(stem: str) -> str:
    if re.search(r"[^aeiou]y$", stem):
        return stem[:-1] + "ied"
    return stem + ("d" if stem.endswith("e") else "ed")
