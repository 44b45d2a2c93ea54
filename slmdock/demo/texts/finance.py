"""Finance: the tone and the topic of company news, and what `banking` adds to them."""

from slmdock.demo.texts import banking
from slmdock.demo.texts.grammar import Label, LabelledClues, Recipe, Wording
from slmdock.demo.texts.tasks import LearnwareTask
from slmdock.demo.texts.words import COMMON

# fmt: off
_NEWS_ASIDES = (
    "The statement was published before the market opened.",
    "{firm} employs about {two} thousand people.",
    "Trading in {city} was quiet on {day}.",
    "Analysts in {city} had been waiting for the announcement.",
    "The company is based in {city}.",
    "A spokesperson declined to comment further.",
    "The next report is due in {month}.",
    "Chief executive {name} spoke to reporters in {city}.",
    "The shares are listed in {city}.",
)
_NEWS_ASIDES_OF_USERS = (
    "Our {city} bureau picked this up on {day}.",
    "The firm has offices in {city} and {city}.",
    "{name} covers the company for us.",
    "More details will follow in {month}.",
    "The office confirmed it by phone.",
)

_TONE_LABELS = LabelledClues(
    (
        Label(
            ("positive", "good", "bullish"),
            (
                "rose", "climbed", "jumped", "surged", "soared", "beat forecasts", "improved sharply",
                "rallied",
                "hit a record high", "grew faster than expected", "doubled", "rose {two} percent",
                "jumped {two} percent", "strengthened", "gained ground", "recovered strongly",
            ),
        ),
        Label(
            ("negative", "bad", "bearish"),
            (
                "fell", "dropped", "slid", "plunged", "sank", "missed forecasts", "worsened", "tumbled",
                "hit a record low", "shrank", "halved", "fell {two} percent", "dropped {two} percent",
                "weakened",
                "lost ground", "collapsed",
            ),
        ),
        Label(
            ("neutral", "mixed", "sideways"),
            (
                "was unchanged", "stayed flat", "held steady", "matched forecasts", "barely moved",
                "was stable",
                "remained level", "was in line with forecasts", "did not change", "stood still",
                "stayed where it was", "was little changed", "kept its level",
            ),
        ),
    )
)
_TONE = Recipe(
    draw=_TONE_LABELS,
    grammar={
        **COMMON,
        "measure": (
            "profit", "revenue", "net income", "operating margin", "order intake", "cash flow",
            "quarterly turnover",
            "share price", "retail business", "export income", "annual profit", "core revenue",
        ),
        "period": ("the first quarter", "the second quarter", "{month}", "the year to {month}",
        "the last half"),
    },
    learnware=Wording(
        (
            "{firm} said its {measure} {clue} in {period}.",
            "{firm}: {measure} {clue} in {period}",
            "{measure} at {firm} {clue} after {period}.",
            "In {period} the {measure} of {firm} {clue}.",
            "Headline: {firm} {measure} {clue}.",
            "What is the tone of this headline? {firm} {measure} {clue} in {period}",
            "Investors heard on {day} that {measure} at {firm} {clue}.",
            "{firm} reports for {period}: {measure} {clue}.",
            "The {measure} of {firm} {clue}, the company said on {day}.",
            "Update from {city}: {firm} {measure} {clue}.",
            "Is this good or bad news for shareholders? The {measure} at {firm} {clue} in {period}.",
            "According to figures for {period}, {measure} at {firm} {clue}.",
            "{firm} told the market that {measure} {clue}.",
            "Market brief, {day}: {measure} of {firm} {clue} in {period}.",
            "Results: {firm}, {city}. {measure} {clue}.",
            "Classify the sentiment: {measure} {clue} at {firm}.",
            "Shareholders of {firm} learned that its {measure} {clue} over {period}.",
            "{day}'s filing shows that {measure} {clue} at {firm}.",
        ),
        _NEWS_ASIDES,
    ),
    user=Wording(
        (
            "Morning wire, {city}: at {firm}, {measure} {clue} during {period}.",
            "Please judge the mood of this story. {firm} disclosed that {measure} {clue}.",
            "{name} writes from {city} that the {measure} of {firm} {clue} through {period}.",
            "Breaking: {measure} {clue}, says {firm}",
            "Over {period}, {firm} saw how its {measure} {clue}.",
            "Ticker note on {firm}. {measure} {clue}.",
            "How should our clients read it? {firm} wrote that {measure} {clue}.",
        ),
        _NEWS_ASIDES_OF_USERS,
    ),
)

_TOPIC_LABELS = LabelledClues(
    (
        Label(
            ("merger", "deal", "takeover"),
            (
                "agreed to buy {firm}", "will merge with {firm}", "launched a takeover bid for {firm}",
                "completed the acquisition of {firm}", "is in talks to combine with {firm}",
                "wants to acquire a stake in {firm}", "made a buyout offer for {firm}",
                "sealed its purchase of {firm}",
            ),
        ),
        Label(
            ("lawsuit", "legal", "court"),
            (
                "was sued by {party}", "faces a court case over {issue}", "settled a lawsuit with {party}",
                "must pay a fine for {issue}", "lost its appeal in a trial over {issue}",
                "is accused by prosecutors of {issue}", "denied the claims of {party} before a judge",
            ),
        ),
        Label(
            ("leadership", "people", "management"),
            (
                "named {name} as chief executive", "appointed {name} to its board",
                "replaced its chairman with {name}",
                "said that finance chief {name} will step down", "hired {name} as head of strategy",
                "announced that director {name} resigned", "promoted {name} to president",
            ),
        ),
        Label(
            ("dividend", "payout", "shareholders"),
            (
                "will pay a dividend of {digit} cents a share", "raised its payout to shareholders",
                "cut its annual dividend", "announced a share buyback",
                "returns cash to its owners with a special dividend",
                "will buy back {two} million of its own shares", "kept the dividend for {month}",
            ),
        ),
        Label(
            ("product", "launch", "goods"),
            (
                "launched a new {gadget}", "unveiled its latest {gadget}",
                "will start selling a {gadget} in {month}",
                "opened orders for its {gadget}", "showed a prototype of a {gadget}",
                "brings a cheaper {gadget} to stores",
                "presented the redesigned {gadget}",
            ),
        ),
    )
)
_TOPIC = Recipe(
    draw=_TOPIC_LABELS,
    grammar={
        **COMMON,
        "party": ("a rival", "former workers", "customers", "the regulator", "a supplier",
        "a group of investors"),
        "issue": ("patents", "false advertising", "pollution", "price fixing", "unpaid wages", "a data leak",
        "fraud"),
        "gadget": ("phone", "electric van", "camera", "tablet", "solar panel", "home battery", "headset",
        "printer"),
    },
    learnware=Wording(
        (
            "{firm} {clue}.",
            "{firm} {clue}, the company said on {day}.",
            "On {day} {firm} {clue}.",
            "Which desk should take this story? {firm} {clue}.",
            "News from {city}: {firm} {clue}.",
            "{city}, {day}. {firm} {clue}.",
            "Topic of this item? {firm} {clue} in {month}.",
            "It is now official that {firm} {clue}.",
            "The company {firm} {clue}, according to a filing.",
            "Business in brief: {firm} {clue}.",
            "Sources in {city} say that {firm} {clue}.",
            "After months of rumours, {firm} {clue}.",
            "File under: {firm} {clue}.",
            "{firm}, which is listed in {city}, {clue}.",
            "Reported by {name}: {firm} {clue} last {day}.",
            "What is this article about? {firm} {clue}.",
            "As expected, {firm} {clue}.",
        ),
        _NEWS_ASIDES,
    ),
    user=Wording(
        (
            "Tag the following company story: {firm} {clue}.",
            "From the {city} newsroom, {firm} {clue} this week.",
            "Readers learned in {month} how {firm} {clue}.",
            "Late edition: {firm} {clue}",
            "To our surprise {firm} {clue}, reports {name}.",
            "Section, please, for this dispatch. {firm} {clue}.",
        ),
        _NEWS_ASIDES_OF_USERS,
    ),
)

RECIPES = {
    "finance-headline-sentiment": _TONE,
    "finance-news-topic": _TOPIC,
    "finance-transaction-category": banking.MERCHANT,
    "finance-customer-intent": banking.INTENT,
}
TASKS = (
    LearnwareTask(
        "finance-headline-sentiment", "finance", "classification",
        "Says whether a line of company news is positive, negative or neutral for investors.",
        ("news", "sentiment", "companies"),
    ),
    LearnwareTask(
        "finance-news-topic", "finance", "classification",
        "Names the topic of a company news item: merger, lawsuit, leadership, dividend or product.",
        ("news", "topic", "companies"),
    ),
    LearnwareTask(
        "finance-transaction-category", "finance", "classification",
        "Sorts a line of a bank statement into groceries, transport, utilities, dining or leisure.",
        ("banking", "transactions", "budget"),
    ),
    LearnwareTask(
        "finance-customer-intent", "finance", "classification",
        "Tells what a bank's customer wants: card, transfer, loan, login or fee.",
        ("banking", "customer service", "intent"),
    ),
)
