"""Healthcare: how urgent a complaint is, who should see it, what class a drug is of, and how many a day."""

from random import Random

from slmdock.demo.texts.grammar import Label, LabelledClues, Problem, Recipe, Wording
from slmdock.demo.texts.tasks import LearnwareTask
from slmdock.demo.texts.words import COMMON, number_answers, number_in_words

# fmt: off
_PATIENT_ASIDES = (
    "The patient is {two} years old.",
    "No known allergies.",
    "{name} came in with a relative.",
    "The patient lives in {city}.",
    "It started {time}.",
    "Never smoked.",
    "The last check-up was in {month}.",
    "The notes were taken by nurse {name}.",
    "Blood tests from {month} were fine.",
)
_PATIENT_ASIDES_OF_USERS = (
    "Insurance card seen.",
    "The interpreter was {name}.",
    "Age {two}, lives alone.",
    "We spoke on the phone on {day}.",
    "Moved here from {city} in {month}.",
)
_GRAMMAR = {
    **COMMON,
    "person": (
        "a woman of {two}", "a man of {two}", "a child", "{name}", "my father", "my daughter", "the patient",
        "my neighbour", "a student",
    ),
}

_TRIAGE_LABELS = LabelledClues(
    (
        Label(
            ("emergency", "red", "now"),
            (
                "crushing chest pain", "heavy bleeding that does not stop", "no breath",
                "sudden paralysis on one side",
                "a seizure that goes on", "loss of consciousness", "severe burns",
                "a swollen throat after a bee sting",
                "blue lips and gasping", "sudden slurred speech", "a deep stab wound", "a suspected overdose",
            ),
        ),
        Label(
            ("urgent", "amber", "today"),
            (
                "a high fever for three days", "a deep cut that needs stitches", "a possible broken wrist",
                "severe ear ache", "vomiting all night", "a painful swollen knee", "blood in the urine",
                "a dog bite", "a bad migraine with vomiting", "an infected wound", "strong stomach cramps",
            ),
        ),
        Label(
            ("routine", "green", "later"),
            (
                "a mild cold", "a runny nose", "a small wart", "a request for a repeat prescription",
                "dry skin",
                "slight heartburn", "a question about vitamins", "a yearly check-up", "an old mild back ache",
                "a travel vaccination", "a few insect bites", "a form to be signed",
            ),
        ),
    )
)
_TRIAGE = Recipe(
    draw=_TRIAGE_LABELS,
    grammar=_GRAMMAR,
    learnware=Wording(
        (
            "{person} has {clue} {time}.",
            "How urgent is this? {person} with {clue}.",
            "Triage note: {clue}.",
            "Caller reports {clue}, {person}.",
            "{person} comes to the desk with {clue}.",
            "Front desk, {day}: {person}, {clue}.",
            "Complaint: {clue}. Onset {time}.",
            "I am calling about {person}, it is {clue}.",
            "Reason for visit: {clue}.",
            "Hello nurse, {person} has {clue}.",
            "The family says there is {clue} {time}.",
            "Who must be seen first? Case {digit}: {person}, {clue}.",
            "Walk-in, {city} clinic: {clue}.",
            "The ambulance line got a call about {clue}.",
            "Set the priority for {person}: {clue}.",
            "{name} wrote in the form: {clue}.",
        ),
        _PATIENT_ASIDES,
    ),
    user=Wording(
        (
            "Hotline log {two}: {person}, main worry {clue}.",
            "Can this wait? We have {person} here and it is {clue}.",
            "Night shift, {city}. {person} turned up showing {clue}.",
            "Please rank: {clue}, noticed {time}.",
            "School nurse writes: {clue}, what now?",
            "Message from the care home about {person}. There is {clue}.",
        ),
        _PATIENT_ASIDES_OF_USERS,
    ),
)

_SPECIALTY_LABELS = LabelledClues(
    (
        Label(
            ("cardiology", "heart", "CAR"),
            (
                "heart palpitations", "an irregular pulse", "a heart murmur", "high blood pressure",
                "a racing heartbeat", "narrow coronary arteries", "a weak heart valve",
                "swollen ankles from heart failure",
            ),
        ),
        Label(
            ("dermatology", "skin", "DER"),
            (
                "an itchy rash", "a changing mole", "acne on the face", "eczema on the hands",
                "psoriasis plaques",
                "skin blisters", "a dark spot on the skin", "hives on the arms",
            ),
        ),
        Label(
            ("neurology", "nerves", "NEU"),
            (
                "numb fingers and tremor", "memory loss", "epilepsy", "frequent migraines",
                "dizziness and double vision",
                "a tingling nerve pain", "Parkinson symptoms", "a weak left hand after a stroke",
            ),
        ),
        Label(
            ("orthopedics", "bones", "ORT"),
            (
                "a torn knee ligament", "hip joint pain", "a broken ankle", "a stiff shoulder",
                "a fractured rib",
                "a slipped disc in the spine", "arthritis in the knees", "a sprained wrist",
            ),
        ),
        Label(
            ("ophthalmology", "eyes", "OPH"),
            (
                "blurred sight", "a cataract", "red itchy eyes", "high eye pressure", "floaters in the eye",
                "a scratched cornea", "glaucoma", "poor night vision",
            ),
        ),
    )
)
_SPECIALTY = Recipe(
    draw=_SPECIALTY_LABELS,
    grammar=_GRAMMAR,
    learnware=Wording(
        (
            "{person} is referred for {clue}.",
            "Which department should see {person} with {clue}?",
            "Referral: {clue}, first seen in {month}.",
            "Dear colleague, please see {person} because of {clue}.",
            "Diagnosis in question: {clue}.",
            "{person} suffers from {clue} and asks for a specialist.",
            "Find a specialist for {clue}.",
            "Book an appointment for {person}, {clue}.",
            "Outpatient letter, {city}: {clue}.",
            "Finding on examination: {clue}.",
            "For {digit} months {person} has had {clue}.",
            "The family doctor found {clue} in {person}.",
            "Second opinion wanted about {clue}.",
            "{name}, {two}, known for {clue}.",
            "History of {clue}, please advise.",
            "Follow-up in {month} for {clue}.",
        ),
        _PATIENT_ASIDES,
    ),
    user=Wording(
        (
            "Our practice in {city} sends {person}; the issue is {clue}.",
            "Where in the hospital do I go with {clue}?",
            "Kindly take over {person}. Long known: {clue}.",
            "Intake sheet {two}. Problem noted: {clue}. Refer to whom?",
            "Dr {name} would like {clue} looked into by the right team.",
            "Transfer request on {day}, {person}, {clue}.",
        ),
        _PATIENT_ASIDES_OF_USERS,
    ),
)

_DRUG_LABELS = LabelledClues(
    (
        Label(
            ("antibiotic", "bacteria", "ATB"),
            ("amoxicillin", "penicillin", "doxycycline", "azithromycin", "ciprofloxacin", "cephalexin",
            "erythromycin"),
        ),
        Label(
            ("painkiller", "pain", "ANL"),
            ("ibuprofen", "paracetamol", "aspirin", "naproxen", "codeine", "morphine", "tramadol"),
        ),
        Label(
            ("antidepressant", "mood", "ADP"),
            ("sertraline", "fluoxetine", "citalopram", "venlafaxine", "mirtazapine", "paroxetine"),
        ),
        Label(
            ("statin", "cholesterol", "STA"),
            ("atorvastatin", "simvastatin", "rosuvastatin", "pravastatin", "lovastatin", "fluvastatin"),
        ),
        Label(
            ("antihistamine", "allergy", "AHI"),
            ("cetirizine", "loratadine", "fexofenadine", "desloratadine", "diphenhydramine",
            "levocetirizine"),
        ),
    )
)
_DRUG = Recipe(
    draw=_DRUG_LABELS,
    grammar={**_GRAMMAR, "strength": ("{digit}0 mg", "{digit}00 mg", "{two} mg", "{digit} mg")},
    learnware=Wording(
        (
            "{clue} {strength}",
            "What class of drug is {clue}?",
            "Prescription for {name}: {clue} {strength}.",
            "The patient takes {clue} {strength} every evening.",
            "{clue} {strength} tablets, pack of {two}",
            "Pharmacist's note: {clue} was handed out on {day}.",
            "Current medication: {clue}.",
            "Rx {clue} {strength} for {person}.",
            "Class of {clue}?",
            "{person} was given {clue} in {month}.",
            "Stop {clue} before the operation.",
            "Started {clue} {strength} in {month}.",
            "Medication list of {name}: {clue}, {strength}.",
            "Refill request for {clue}, {two} tablets.",
            "The label on the box says {clue} {strength}.",
            "Is {clue} known to you? To which group does it belong?",
        ),
        (
            "Store below {two} degrees.", "Keep away from children.", "Take with a glass of water.",
            "The doctor is {name}.", "Expires in {month}.", "Batch {two}{two}.",
        ),
    ),
    user=Wording(
        (
            "Which group of medicines does {clue} {strength} go to?",
            "Sort this drug: {clue}.",
            "{person} came with a prescription for {clue} {strength}.",
            "Stock of tablets, item {two}: {clue} {strength}",
            "Discharge letter: {name} takes {clue}.",
            "Dr {name} wants to switch the patient to {clue}.",
            "{clue} {strength}, box of {two}",
        ),
        ("Keep in a dry place.", "Not for children.", "The box expires in {month}.", "Swallow with water."),
    ),
)

_TIMES = {1: ("once", "one time"), 2: ("twice", "two times", "2 times"), 3: ("three times", "3 times"),
          4: ("four times", "4 times")}  # fmt: skip


def _draw_dose(rng: Random) -> Problem:
    amount, times = rng.randint(1, 5), rng.randint(1, 4)
    slots = {"amount": (str(amount), number_in_words(amount)), "times": _TIMES[times]}
    return Problem(slots=slots, answers=number_answers(amount * times))


_DOSE = Recipe(
    draw=_draw_dose,
    grammar={
        **_GRAMMAR,
        "form": ("tablets", "capsules", "pills", "drops", "puffs", "lozenges"),
        "drug": (
            "iron", "zinc", "calcium", "vitamin C", "vitamin D", "magnesium", "insulin", "cough syrup",
            "fish oil",
            "folic acid", "the blue medicine", "the white medicine",
        ),
    },
    learnware=Wording(
        (
            "Take {amount} {form} of {drug} {times} a day. How many a day?",
            "{drug}: {amount} {form} {times} daily",
            "{name} takes {amount} {form} {times} a day.",
            "Dose: {amount} {form}, {times} a day.",
            "How many {form} of {drug} per day, if it is {amount} {form} {times} a day?",
            "The label says {amount} {form} {times} daily.",
            "Give {person} {amount} {form} of {drug} {times} per day.",
            "Daily total for {amount} {form} {times} a day?",
            "{drug}, {amount} {form}, {times} per day, for {digit} weeks",
            "The doctor told {name} to take {amount} {form} {times} daily.",
            "{times} a day, {amount} {form} of {drug}.",
            "Plan: {amount} {form} {times} a day with food.",
            "Nurse {name} gives {amount} {form} {times} a day.",
            "Sum up the day: {amount} {form} of {drug} {times}.",
            "Instructions for {drug}: {times} a day {amount} {form}.",
            "{person} needs {amount} {form} of {drug} {times} a day.",
        ),
        (
            "Drink plenty of water.", "Do not drive.", "Take them after a meal.", "Shake well before use.",
            "Call us if you feel sick.",
        ),
    ),
    user=Wording(
        (
            "{name} should take {amount} {form} of {drug} {times} a day. How many is that daily?",
            "Our mother takes {amount} {form} of {drug} {times} daily.",
            "Chart entry, {drug}: {amount} {form}, given {times} per day.",
            "Count for a day: {amount} {form} of {drug}, {times} a day.",
            "{person} must take {amount} {form} {times} each day.",
            "Leaflet of {drug}: adults take {amount} {form} {times} a day.",
            "New dose for {person}: {amount} {form}, {times} daily.",
            "How many {form} a day are {amount} {form} {times} daily?",
        ),
        ("Take it with water.", "Have some food before.", "Shake the bottle.", "Do not take more."),
    ),
)

RECIPES = {
    "healthcare-triage": _TRIAGE,
    "healthcare-specialty": _SPECIALTY,
    "healthcare-drug-class": _DRUG,
    "healthcare-daily-dose": _DOSE,
}
TASKS = (
    LearnwareTask(
        "healthcare-triage", "healthcare", "classification",
        "Ranks a patient's complaint as emergency, urgent or routine.",
        ("triage", "symptoms", "clinic"),
    ),
    LearnwareTask(
        "healthcare-specialty", "healthcare", "classification",
        "Names the department a referral belongs to, such as cardiology or dermatology.",
        ("referral", "symptoms", "clinic"),
    ),
    LearnwareTask(
        "healthcare-drug-class", "healthcare", "look-up",
        "Gives the class of a drug named in a prescription or note.",
        ("pharmacy", "drugs"),
    ),
    LearnwareTask(
        "healthcare-daily-dose", "healthcare", "arithmetic",
        "Works out how many tablets or drops a dosing instruction makes in a day.",
        ("pharmacy", "dosing", "numbers"),
    ),
)
