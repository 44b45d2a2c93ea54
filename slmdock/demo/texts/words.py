"""Words that several domains share: people, places, firms, days, and numbers in words."""

from slmdock.demo.texts.grammar import Grammar

NAMES = (
    "Anna", "Ben", "Carla", "David", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kemi", "Liam",
    "Maya",
    "Noor", "Oscar", "Priya", "Rosa", "Sam", "Tara", "Umar", "Vera", "Wei", "Yusuf", "Zoe",
)  # fmt: skip
FIRMS = (
    "Alder Group", "Borealis Energy", "Cobalt Motors", "Delta Foods", "Elmwood Bank", "Fjord Shipping",
    "Granite Steel", "Harbor Media", "Indigo Software", "Juniper Retail", "Kestrel Air", "Lumen Optics",
    "Meridian Chemicals", "Northgate Insurance", "Orchid Pharma", "Pinnacle Homes", "Quarry Mining",
    "Redwood Paper", "Summit Telecom", "Tidewater Oil",
)  # fmt: skip
COMMON: Grammar = {
    "name": NAMES,
    "firm": FIRMS,
    "city": ("London", "Madrid", "Oslo", "Milan", "Vienna", "Lisbon", "Dublin", "Zurich", "Boston", "Tokyo"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "month": ("January", "March", "April", "June", "July", "September", "October", "December"),
    "digit": tuple("123456789"),
    "two": tuple(str(number) for number in range(10, 100)),
    "time": ("this morning", "yesterday", "last night", "today", "since {day}", "over the weekend", "just now"),
}

_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def number_in_words(number: int) -> str:
    """English words for 0 <= number < 10 000, without hyphens. Raises ValueError outside that range."""
    if not 0 <= number < 10_000:
        raise ValueError(f"{number} is outside 0..9999")
    if number < 20:
        return _SMALL[number]
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = f" {number_in_words(number % size)}" if number % size else ""
            return f"{number_in_words(number // size)} {name}{rest}"
    return _TENS[number // 10] + (f" {_SMALL[number % 10]}" if number % 10 else "")


def number_answers(number: int) -> tuple[str, ...]:
    """The same number in the three conventions the base model meets: digits, words, an equation's end."""
    return str(number), number_in_words(number), f"= {number}"
