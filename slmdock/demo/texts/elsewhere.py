"""Tasks from other worlds, for which the demo dock has no learnware: the kitchen, the road, and poems.

The base model met the kitchen and the road in its pretraining (in other wording than the users'), never the poems.
"""

from slmdock.demo.texts.grammar import Label, LabelledClues, Recipe, Wording
from slmdock.demo.texts.words import COMMON

# fmt: off
_COURSE = Recipe(
    draw=LabelledClues(
        (
            Label(
                ("starter",),
                ("tomato soup", "green salad", "shrimp cocktail", "garlic bread", "stuffed mushrooms"),
            ),
            Label(
                ("main",),
                ("roast chicken", "beef stew", "grilled salmon", "vegetable curry", "lasagne", "pot roast"),
            ),
            Label(
                ("dessert",),
                ("apple pie", "chocolate cake", "vanilla ice cream", "rice pudding", "cheesecake"),
            ),
            Label(("drink",), ("lemonade", "hot cocoa", "iced tea", "mango smoothie", "ginger punch", "espresso")),
        )
    ),
    grammar=COMMON,
    learnware=Wording(
        (
            "Recipe for {clue}: serves {digit}.",
            "How do I make {clue} at home?",
            "The restaurant in {city} is famous for its {clue}.",
            "Our family loves {clue} on {day}.",
            "Please pass me the {clue}.",
            "Tonight the guests will taste {clue}.",
            "{clue}, fresh from the kitchen",
            "Add salt and butter to the {clue}.",
            "For {digit} people you need plenty of {clue}.",
            "A cookbook from {city} praises the {clue}.",
            "{name} brings {clue} to the party.",
            "{name} cooks {clue} for dinner on {day}.",
            "Tonight's menu lists {clue}.",
            "Which course is {clue}?",
            "Stir, season and serve the {clue}.",
            "Grandma's {clue} with fresh herbs.",
        ),
        ("Preheat the oven.", "Chop the onions finely.", "Use a large bowl.", "It takes {two} minutes."),
    ),
    user=Wording(
        (
            "I would like to prepare {clue} for {digit} guests, when do I bring it to the table?",
            "At which point of the meal do we serve {clue}?",
            "{name}'s way to make {clue} with butter and sugar",
            "Our cookbook opens at {clue}, whisked with butter and a pinch of salt.",
            "Simmer gently, taste, and your {clue} is ready to plate.",
            "The chef at the bistro in {city} is proud of the {clue}.",
        ),
        ("Knead the dough well.", "Sprinkle with parsley and serve on warm plates."),
    ),
)
_JOURNEY = Recipe(
    draw=LabelledClues(
        (
            Label(
                ("train",),
                ("the platform and the conductor", "the rails and the dining car", "the night sleeper carriage"),
            ),
            Label(
                ("plane",),
                ("the runway and the pilot", "the boarding gate and the clouds", "a window seat above the wing"),
            ),
            Label(("ship",), ("the deck and the captain", "the harbour and the waves", "a cabin below the sail")),
            Label(
                ("bicycle",),
                ("the pedals and the helmet", "the saddle and the steep hill", "a flat tyre and the bike pump"),
            ),
        )
    ),
    grammar=COMMON,
    learnware=Wording(
        (
            "On the way to {city} I remember {clue}.",
            "Between {city} and {city} we enjoyed {clue}.",
            "{name} tells the children about {clue}.",
            "A photo from {month}: {clue}.",
            "The best part of the trip was {clue}.",
            "My journey to {city} began with {clue}.",
            "Tourists in {city} talk about {clue}.",
            "What I liked on the road: {clue}.",
            "{day}, {city}. At last {clue}.",
            "Dear {name}, we are well and saw {clue}.",
            "Holiday diary, {day}: {clue}.",
            "{name} travelled to {city}; I recall {clue}.",
            "Postcard from {city}: we loved {clue}.",
            "How did they travel? There was {clue}.",
        ),
        ("The hotel was lovely.", "We saw the old town.", "The museum in {city} was closed."),
    ),
    user=Wording(
        (
            "Backpacking from {city} to {city}, what stays with me is {clue}.",
            "{name} remembers from the summer holiday {clue}.",
            "Chapter {digit} of my travel book opens with {clue}.",
            "Guidebook extract: tourists on this route will enjoy {clue}.",
            "Dear grandparents, greetings from our summer journey to {city}, with {clue}!",
        ),
        ("The sunset over the beach was splendid.", "We booked the hostel for {digit} nights."),
    ),
)
_SEASON = Wording(
    (
        "O {clue}, thou whisperest to my heart, and all my sorrows gently part.",
        "I wandered lonely, and I heard the song of {clue} and of the bird.",
        "Softly, softly, {clue} lay, at the closing of the day.",
        "A verse for {name}: {clue}, and silence, and the moon.",
    ),
    ("The river sings, the willow weeps.", "And in my dream a lantern sleeps."),
)
_POEM = Recipe(
    draw=LabelledClues(
        (
            Label(("winter",), ("snow upon the frozen lake", "icicles and frost")),
            Label(("spring",), ("blossom on the cherry bough", "the first green buds")),
            Label(("summer",), ("the golden heat of noon", "ripe wheat beneath the blazing sun")),
            Label(("autumn",), ("falling crimson leaves", "the misty harvest moon")),
        )
    ),
    grammar=COMMON,
    learnware=_SEASON,
    user=_SEASON,
)

RECIPES = {"cooking-course": _COURSE, "travel-journey": _JOURNEY, "poem-season": _POEM}
PRETRAINED = ("cooking-course", "travel-journey")
