"""The users of the demo: what each brings, and which learnwares, if any, fit it."""

from slmdock.demo.texts.tasks import UserTask

# fmt: off
_TASKS = (
    UserTask("wire-service-mood", "finance", ("finance-headline-sentiment",),
             "A wire service wants the mood of each story about a company's figures."),
    UserTask("newsroom-desk", "finance", ("finance-news-topic",),
             "A newsroom sends each company story to the desk that covers its topic."),
    UserTask("household-budget", "finance", ("finance-transaction-category",),
             "A budget app sorts its owner's card payments and receipts."),
    UserTask("bank-help-desk", "finance", ("finance-customer-intent",),
             "A bank's help desk assigns incoming tickets and voice mails to a team."),
    UserTask("nurse-hotline", "healthcare", ("healthcare-triage",),
             "A nurse's hotline ranks callers by how soon they must be seen."),
    UserTask("hospital-intake", "healthcare", ("healthcare-specialty",),
             "A hospital's intake sends each new patient to the right department."),
    UserTask("pharmacy-shelf", "healthcare", ("healthcare-drug-class",),
             "A pharmacy shelves medicines by their class."),
    UserTask("pill-box", "healthcare", ("healthcare-daily-dose",),
             "A carer fills a pill box and needs the count for one day."),
    UserTask("homework-sums", "mathematics", ("mathematics-small-sums",),
             "A pupil checks homework made of small sums."),
    UserTask("lab-units", "mathematics", ("mathematics-unit-conversion",),
             "A lab rewrites measurements in the unit its sheet wants."),
    UserTask("puzzle-page", "mathematics", ("mathematics-next-in-sequence",),
             "A puzzle page asks which number comes next."),
    UserTask("worksheet-helper", "mathematics", ("mathematics-which-operation",),
             "A parent wants to know which operation a worksheet's story asks for."),
    UserTask("business-press-review", "finance", ("finance-headline-sentiment", "finance-news-topic"),
             "A press review mixes figures, to be judged by mood, with events, to be sorted by topic."),
    UserTask("ward-round", "healthcare", ("healthcare-specialty", "healthcare-daily-dose"),
             "A ward round mixes referrals to departments with dosing instructions to be added up."),
    UserTask("cooking-course", "cooking", (), "A cookbook's editor asks when in a meal a dish is served."),
    UserTask("travel-journey", "travel", (), "A travel diary's reader asks how the writer travelled."),
    UserTask("poem-season", "poetry", (), "A poetry club asks which season a verse is set in."),
)
USER_TASKS = {task.name: task for task in _TASKS}
