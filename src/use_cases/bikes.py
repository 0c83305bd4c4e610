"""The bikes use case: how many bikes are rented in an hour.

The data are the UCI Bike Sharing data (see `src/datasets/PROVENANCE.md`).
"""

from tabserve.columns.derived import Grouping
from tabserve.columns.features import CyclicInteger, Integer, OrderedCategory
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.evaluation.gates import ChampionMargin, LargestGap, SmallestMetric
from tabserve.models.lightgbm import LgbCountRegressor
from tabserve.models.scikit import SVR, DecisionTreeRegressor, Lasso, LinearRegression
from tabserve.search_space import Real, Whole
from tabserve.tasks.regression import Regression
from tabserve.transformers import MinMax, OneHot, Target

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
YEARS = (2011, 2012)

FEATURES = (
    CyclicInteger(name="hour", description="Hour of the day, 0 to 23; 24 means 0", low=0, high=24),
    OrderedCategory(name="weekday", description="Day of the week", values=WEEKDAYS),
    OrderedCategory(name="month", description="Month", values=MONTHS),
    OrderedCategory(
        name="weather",
        description="Cloudy: includes mist; Rainy: light rain or snow; Stormy: heavy rain, thunderstorm or snow",
        values=("Clear", "Cloudy", "Rainy", "Stormy"),
    ),
    Integer(
        name="year",
        description="Year; by default, the newest",
        low=YEARS[0],
        high=YEARS[-1],
        default=YEARS[-1],
    ),
)

DERIVED = (
    Grouping(
        name="season",
        description="Season of the year",
        category="month",
        groups={
            "winter": ("December", "January", "February"),
            "spring": ("March", "April", "May"),
            "summer": ("June", "July", "August"),
            "autumn": ("September", "October", "November"),
        },
    ),
    Grouping(
        name="weekend",
        description="Is it Saturday or Sunday?",
        category="weekday",
        groups={"no": WEEKDAYS[:5], "yes": WEEKDAYS[5:]},
    ),
)

LINEAR = Algorithm(
    name="LinearRegression",
    model=LinearRegression(floor=0),
    transformers=(OneHot(("hour", "weekday", "month")), MinMax()),
)

ALGORITHMS = (
    # with the hour as one number, a line cannot follow the day: this shows what the other encodings are worth
    Algorithm(name="Lasso", model=Lasso(floor=0), transformers=(MinMax(),)),
    Algorithm(
        name="SVR",
        model=SVR(C=100, gamma=1, epsilon=20, floor=0),
        transformers=(OneHot(("hour",)), MinMax()),
    ),
    LINEAR,
    Algorithm(
        name="DecisionTreeRegressor",
        model=DecisionTreeRegressor(),
        search_space={"max_depth": Whole(4, 24), "min_samples_leaf": Whole(1, 50, log=True)},
    ),
    Algorithm(
        name="LGBMRegressor",
        model=LgbCountRegressor(),
        search_space={
            "num_leaves": Whole(16, 48, log=True),
            "min_data_in_leaf": Whole(5, 40, log=True),
            "feature_fraction_bynode": Real(0.4, 1.0),
            "bagging_fraction": Real(0.5, 1.0),
            "lambda_l2": Real(0.1, 50.0, log=True),
            "learning_rate": Real(0.15, 0.3, log=True),
        },
    ),
)

USE_CASE = UseCase(
    name="bikes",
    title="Bike rentals",
    description="How many bikes are rented in an hour?",
    task=Regression(),
    source="bikes.csv",
    features=FEATURES,
    derived=DERIVED,
    target=Target(Integer(name="count", description="Bikes rented in that hour", low=0, high=1_000_000)),
    algorithms=ALGORITHMS,
    baseline=LINEAR,
    gates=(SmallestMetric("r2", 0.2), LargestGap("r2", 0.1), ChampionMargin("r2", 0.02)),
    example={"hour": 15, "weekday": "Friday", "month": "June", "weather": "Cloudy"},
    splits=4,
    repeats=1,
    chronological=True,
    limits=(
        "The data are hours of one city, Washington, D.C., in 2011 and 2012, while its service grew: they say little "
        "about another city or year.",
        "The model knows no temperatures, holidays or events: it predicts what is usual at such an hour.",
    ),
)
