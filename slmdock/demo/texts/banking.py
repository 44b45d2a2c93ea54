"""Finance at the bank's counter: card transactions, and what a customer wants."""

from slmdock.demo.texts.grammar import Label, LabelledClues, Recipe, Wording
from slmdock.demo.texts.words import COMMON

# fmt: off
_MERCHANT_LABELS = LabelledClues(
    (
        Label(
            ("groceries", "food", "GRO"),
            (
                "{brand} supermarket", "{brand} grocery", "{brand} food market", "{brand} bakery",
                "{brand} butcher",
                "{brand} greengrocer", "{brand} farm shop", "{brand} fruit store",
            ),
        ),
        Label(
            ("transport", "travel", "TRN"),
            (
                "{brand} taxi", "{brand} railways", "{brand} airlines", "{brand} bus lines",
                "{brand} parking",
                "{brand} petrol station", "{brand} car hire", "{brand} ferries", "{brand} metro ticket",
            ),
        ),
        Label(
            ("utilities", "bills", "UTL"),
            (
                "{brand} electricity", "{brand} water supply", "{brand} gas and heating", "{brand} broadband",
                "{brand} mobile phone", "{brand} power company", "{brand} internet",
            ),
        ),
        Label(
            ("dining", "restaurants", "DIN"),
            (
                "{brand} restaurant", "{brand} cafe", "{brand} pizza", "{brand} burger house",
                "{brand} sushi bar",
                "{brand} diner", "{brand} steakhouse", "{brand} noodle kitchen", "{brand} bistro",
            ),
        ),
        Label(
            ("leisure", "fun", "LEI"),
            (
                "{brand} cinema", "{brand} gym", "{brand} theatre", "{brand} bookshop",
                "{brand} concert hall",
                "{brand} video games", "{brand} museum", "{brand} swimming pool", "{brand} bowling",
            ),
        ),
    )
)
MERCHANT = Recipe(
    draw=_MERCHANT_LABELS,
    grammar={
        **COMMON,
        "brand": (
            "Maple", "Sunny", "Royal", "Corner", "Bluebird", "Central", "Golden", "Old Mill", "Star",
            "Riverside",
            "Happy", "Union", "City", "Green Leaf", "Two Brothers", "Grand",
        ),
        "amount": ("{two}.{two}", "{digit}.{two}", "{digit}{two}.00", "{two}.00"),
        "currency": ("EUR", "USD", "GBP", "CHF"),
    },
    learnware=Wording(
        (
            "CARD {two}{two} {clue} {currency} {amount}",
            "{clue} {city} {amount} {currency}",
            "Card payment to {clue}, {amount} {currency}.",
            "{day}: {clue}, {amount} {currency}.",
            "Debit {amount} {currency}, {clue}, {city}.",
            "POS purchase {clue} ref {two}{two}{two} {currency} {amount}",
            "Which budget does this belong to? {clue}, {amount} {currency}",
            "Categorise the transaction: {clue} {amount}",
            "Direct debit {clue} {month} {currency} {amount}",
            "Bank statement line: {clue}, {city}, {amount} {currency}.",
            "Contactless {amount} {currency} at {clue}",
            "{currency} {amount} paid at {clue} on {day}.",
            "Payment reference {two}{two}: {clue}, total {amount} {currency}.",
            "{month} {digit} {clue} -{amount}",
            "Account of {name}: {clue} {currency} {amount}",
            "Booked on {day}: {amount} {currency} for {clue}.",
        ),
        ("Balance after booking {two}{two}.{two} {currency}.", "Card ending in {two}{two}.",
        "Value date {digit} {month}."),
    ),
    user=Wording(
        (
            "Card purchase {amount} {currency} with {clue}. What kind of spending is it?",
            "Expense of {name}: {clue} ({amount} {currency})",
            "Receipt from {clue} over {amount} {currency}",
            "{clue} // {currency} {amount} // {day}",
            "Visa charge, merchant {clue}, {city}, {currency} {amount}",
            "On {day} I paid {clue} {amount} {currency} by card.",
            "VISA {two}{two} {clue} {amount} {currency}",
            "Budget category for {clue} {currency} {amount}?",
        ),
        ("Receipt number {two}{two}.", "Account balance {two}{two} {currency}.",
        "Paid with card {two}{two}."),
    ),
)

_INTENT_LABELS = LabelledClues(
    (
        Label(
            ("card", "cards", "plastic"),
            (
                "I lost my card", "my card was stolen", "my debit card does not work", "my card is damaged",
                "I want to block my card", "I need a new credit card", "the machine kept my card",
                "my card has expired",
            ),
        ),
        Label(
            ("transfer", "payments", "send"),
            (
                "I want to send money to {name}", "my transfer to {name} has not arrived",
                "I need to wire {two} dollars abroad", "I sent money to the wrong account",
                "I want to move money to my savings", "I would like to set up a standing order",
                "the payment to {name} is still pending",
            ),
        ),
        Label(
            ("loan", "credit", "borrow"),
            (
                "I want to borrow money for a car", "I would like a mortgage for a house",
                "I need a student loan",
                "I want to repay my loan early", "I ask for a lower interest rate on my mortgage",
                "can you lend me {two} thousand dollars", "I need financing for my shop",
            ),
        ),
        Label(
            ("login", "access", "online"),
            (
                "I forgot my password", "I cannot log in", "the app rejects my code",
                "my online account is locked",
                "I did not get the login code", "I need to reset my password",
                "the website does not accept my username",
            ),
        ),
        Label(
            ("fee", "charges", "costs"),
            (
                "I was charged twice", "you took a monthly fee", "I see a charge I do not understand",
                "why do I pay for my account", "the fee of {digit} dollars is too high",
                "please refund this charge",
                "I was billed for an overdraft",
            ),
        ),
    )
)
INTENT = Recipe(
    draw=_INTENT_LABELS,
    grammar=COMMON,
    learnware=Wording(
        (
            "Hello, {clue}. What should I do?",
            "Hi, this is {name}. {clue}.",
            "{clue}, please help.",
            "Dear bank, {clue}. Thank you, {name}",
            "Customer message: {clue}.",
            "{clue}. Can someone call me on {day}?",
            "Good morning, {clue} and I am in {city}.",
            "What does the customer want? {clue}.",
            "Chat from {name}: {clue}!",
            "I have been your customer for {digit} years. {clue}.",
            "Sorry to bother you, but {clue}.",
            "{day} call, {name}, {city}: {clue}.",
            "Route this request: {clue}.",
            "I am writing because {clue}.",
            "{clue}. I am waiting for your answer.",
            "Since {day} there is a problem: {clue}.",
        ),
        (
            "Thank you for your help.", "I am at work until {digit}.", "Your branch in {city} was closed.",
            "I already wrote to you on {day}.", "Please answer by email.", "The weather is awful here.",
        ),
    ),
    user=Wording(
        (
            "Ticket {two}{two}, opened by {name}. {clue}.",
            "Voice mail left on {day} at the counter in {city}: well, {clue}.",
            "To whom it may concern: {clue}. Kind regards, {name}.",
            "Hey there! So, {clue}, any idea?",
            "Assign this enquiry to a team. {clue}.",
            "{name} asks our bank: {clue}, is that something you can handle?",
        ),
        ("I could not reach anybody.", "My wife told me to ask.", "I am travelling to {city} soon."),
    ),
)
