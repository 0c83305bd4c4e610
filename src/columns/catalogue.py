"""The catalogue of all kinds of columns, by the names that declarations and manifests use."""

from collections.abc import Mapping

from tabserve.columns.boolean import Boolean
from tabserve.columns.carried import Id, Ignored
from tabserve.columns.dates import Date, Datetime
from tabserve.columns.derived import DatePart, DaysBetween, DerivedColumn, Grouping, Quotient, YearsBetween
from tabserve.columns.features import Category, CyclicInteger, Feature, Integer, Number, OrderedCategory
from tabserve.columns.texts import Text

FEATURE_KINDS: Mapping[str, type[Feature]] = {
    feature.kind: feature
    for feature in (
        Category,
        OrderedCategory,
        Number,
        Integer,
        CyclicInteger,
        Boolean,
        Date,
        Datetime,
        Text,
        Id,
        Ignored,
    )
}
DERIVED_KINDS: Mapping[str, type[DerivedColumn]] = {
    column.kind: column for column in (Quotient, Grouping, DatePart, DaysBetween, YearsBetween)
}
