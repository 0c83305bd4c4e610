"""Small files that take much to read: each is refused soon, in little memory, without affecting others.

A process of its own reads them, so that what it and its children take can be measured. Time is that of the processor,
which a busy machine does not change much; the bounds are wide, since what they stand against took gigabytes or an hour.
"""

import io
import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Server, children_of, wait_until

pytestmark = pytest.mark.slow  # the files alone take a quarter of a minute to make

HEADER = ("hour", "weekday", "month", "weather")
ROW = (8, "Monday", "March", "Clear")
MEGABYTES = 180  # by which a process may grow: pyarrow takes 50 of them with the first table
CHILDREN = 250  # megabytes of the largest child so far
SECONDS = 10  # of CPU time, for one file
MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
TYPES = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
WIDE = "\U0001f600"  # a text with it takes four bytes for each character
LAUGHS = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))

READ = """
import json, resource, sys
from tabserve.tables.limits import Deadline
from tabserve.tables.reader import read_table
from tabserve.errors import TabserveError
from tabserve.declaration.discovery import get_use_case

bikes = get_use_case("bikes")

def used():
    own, children = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in (own, children))
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))  # ru_maxrss would include the parent
    return seconds, int(status["VmHWM"].split()[0]) / 1024, children.ru_maxrss / 1024

seconds, before, _ = used()
for path in sys.argv[1:]:
    try:
        with open(path, "rb") as stream:
            limits = {"max_rows": 100_000, "deadline": Deadline(60)}
            read_table(stream, "The file", bikes.features, bikes.target.feature, **limits)
        outcome = "read"
    except TabserveError as error:
        outcome = type(error).__name__
        assert len(str(error)) < 10_000
    began, (seconds, own, child) = seconds, used()
    print(json.dumps([outcome, seconds - began, own - before, child]), flush=True)
"""


def cells(*values: object) -> str:
    return "".join(
        f"<c><v>{value}</v></c>" if isinstance(value, int) else f'<c t="inlineStr"><is><t>{value}</t></is></c>'
        for value in values
    )


HEAD = f"<row>{cells(*HEADER)}</row>"
GOOD = f"<row>{cells(*ROW)}</row>"


def book(
    rows: str = HEAD + GOOD,
    *,
    before: str = "",
    after: str = "",
    styles: str = "",
    texts: str = "",
    sheets: int = 1,
    parts: int = 0,
) -> bytes:
    """A workbook from pieces of XML; all further sheets are the first one under other names."""
    content = io.BytesIO()
    targets = {"styles": "styles.xml", "sharedStrings": "sharedStrings.xml", "worksheet": "worksheets/sheet1.xml"}
    kinds = [*targets.items(), *[("worksheet", "worksheets/sheet1.xml")] * (sheets - 1)]
    relations = [f'<Relationship Id="r{n}" Type="{TYPES}/{kind}" Target="{to}"/>' for n, (kind, to) in enumerate(kinds)]
    files = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "_rels/.rels": f'<Relationships><Relationship Id="r" Type="{TYPES}/officeDocument" Target="xl/workbook.xml"/>'
        "</Relationships>",
        "xl/workbook.xml": f'<workbook {MAIN} xmlns:r="{TYPES}"><sheets>'
        + "".join(f'<sheet name="S{n}" sheetId="{n}" r:id="r{n + 1}"/>' for n in range(1, sheets + 1))
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f"<Relationships>{''.join(relations)}</Relationships>",
        "xl/worksheets/sheet1.xml": f"{before}<worksheet {MAIN}><sheetData>{rows}</sheetData>{after}</worksheet>",
        "xl/styles.xml": f"<styleSheet {MAIN}>{styles}</styleSheet>",
        "xl/sharedStrings.xml": f"<sst {MAIN}>{texts}</sst>",
        **{f"junk/{n}": "" for n in range(parts)},
    }
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def csv(text: str, header: bool = True) -> bytes:
    return (",".join(HEADER) + "\n" + text if header else text).encode()


def doctype(entities: str) -> str:
    return f'<?xml version="1.0"?><!DOCTYPE x [{entities}]>'


def last_column(rows: range) -> str:
    return "".join(f'<row r="{row}"><c r="XFD{row}"><v>1</v></c></row>' for row in rows)


def one_format(code: str, number: int = 200) -> str:
    """Styles that use it."""
    formats = f'<numFmts><numFmt numFmtId="{number}" formatCode="{code}"/></numFmts>'
    return f'{formats}<cellXfs><xf numFmtId="{number}"/></cellXfs>'


LIMIT, TABLE, ROWS, BROKEN = "FileLimitError", "InvalidTableError", "TooManyRowsError", "UnsupportedFileError"
HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    # workbooks
    "a header cell of commas": (LIMIT, lambda: book(f"<row>{cells(',' * 4_000_000)}</row>")),
    "a header cell of as many commas as Excel takes": (TABLE, lambda: book(f"<row>{cells(',' * 32_767)}</row>")),
    "cells beyond the last column": (LIMIT, lambda: book(HEAD + '<row><c r="ZZZ2"><v>1</v></c></row>' * 3_000)),
    "cells in the last column": (LIMIT, lambda: book(HEAD + last_column(range(2, 3_002)))),
    "a header up to the last column": (TABLE, lambda: book(last_column(range(1, 3_001)))),
    "one sheet under many names": (LIMIT, lambda: book(sheets=20_000)),
    "one sheet under a few names": (LIMIT, lambda: book(sheets=500)),
    "entities of entities": (
        BROKEN,
        lambda: book(f"<row>{cells('&l9;')}</row>", before=doctype('<!ENTITY l0 "ha">' + LAUGHS)),
    ),
    "an entity many times": (
        BROKEN,
        lambda: book(f"<row>{cells('&a;' * 1_000) * 100}</row>", before=doctype(f'<!ENTITY a "{"a" * 100_000}">')),
    ),
    "defaults of attributes": (
        "read",
        lambda: book(
            HEAD + GOOD * 90_000,
            before=doctype("".join(f'<!ATTLIST c a{n} CDATA "{"x" * 50}">' for n in range(3_000))),
        ),
    ),
    "a format of brackets": ("read", lambda: book(styles=one_format("[h" * 200_000))),
    "a format of quotes and brackets": ("read", lambda: book(styles=one_format("&quot;[" * 200_000))),
    "many formats": ("read", lambda: book(styles="".join(one_format("[h" * 120, n) for n in range(50_000)))),
    "cells at the same place": (TABLE, lambda: book(("<row>" + '<c r="A1"><v>1</v></c>' * 50_000 + "</row>") * 50)),
    "empty styles": ("read", lambda: book(styles=f"<cellXfs>{'<xf/>' * 5_000_000}</cellXfs>")),
    "nested styles": (LIMIT, lambda: book(styles="<a>" * 5_000_000)),
    "nested rows": (LIMIT, lambda: book("<row>" * 5_000_000)),
    "a row of empty cells": (TABLE, lambda: book(f"<row>{'<c/>' * 5_000_000}</row>")),
    "empty rows": (TABLE, lambda: book("<row/>" * 1_100_000)),
    "other elements between rows": ("read", lambda: book(HEAD + "<x/>" * 5_000_000)),
    "a long text": (LIMIT, lambda: book(texts=f"<si><t>{'x' * 100_000_000}</t></si>")),
    "many texts": ("read", lambda: book(texts="<si/>" * 1_100_000)),
    "a long text in many cells": (
        LIMIT,
        lambda: book(
            HEAD + ("<row>" + '<c t="s"><v>0</v></c>' * 4 + "</row>") * 90_000, texts=f"<si><t>{'x' * 32_767}</t></si>"
        ),
    ),
    "long attributes": (LIMIT, lambda: book(f'<row r="{"1" * 50_000_000}"/>')),
    "many attributes": (TABLE, lambda: book("<row " + "".join(f"a{n}='' " for n in range(500_000)) + "/>")),
    "many parts": (LIMIT, lambda: book(parts=12_000)),
    "more than it may unpack to": (LIMIT, lambda: book(after=" " * 201_000_000)),
    "long texts with a wide letter": (
        LIMIT,
        lambda: book(HEAD + "".join(f"<row>{cells(*[f'{WIDE}aaaaaaaa{n}' * 90] * 4)}</row>" for n in range(20_000))),
    ),
    "more rows than allowed": (ROWS, lambda: book(HEAD + GOOD * 100_001)),
    # CSV
    "unknown columns": (LIMIT, lambda: csv("a," * 8_000_000, header=False)),
    "as many unknown columns as Excel takes": (TABLE, lambda: csv("a," * 16_000, header=False)),
    "a row of cells over many lines": (LIMIT, lambda: csv('"\n",' * 4_000_000)),
    "a cell over many lines": (LIMIT, lambda: csv('"' + "a\n" * 8_000_000)),
    "one line": (LIMIT, lambda: csv("a" * 16_000_000, header=False)),
    "one line with a wide letter": (LIMIT, lambda: csv(WIDE + "a" * 16_000_000)),
    "cells with a wide letter": ("read", lambda: csv("".join(f"{WIDE}{'a' * 100_000}{n},b,c,d\n" for n in range(150)))),
    "blank lines": (LIMIT, lambda: csv("\n" * 1_100_000)),
    "lines of separators": (LIMIT, lambda: csv(",,,\n" * 1_100_000)),
    "rows of another width": (TABLE, lambda: csv("1,2,3\n" * 99_999)),
    "wrong values": ("read", lambda: csv("x,x,x,x\n" * 99_999)),
    "separators of all kinds": (TABLE, lambda: csv(("a;b,c|d\t" * 4_000 + "\n") * 500, header=False)),
    "one line of UTF-16": (LIMIT, lambda: ("a" * 8_000_000).encode("utf-16")),
    "lines of quotes": (LIMIT, lambda: csv('"\n' * 8_000_000)),
    "numbers that may be thousands": (TABLE, lambda: csv("1.234;x\n" * 1_000_000).replace(b",", b";")),
    # JSON lines
    "a deep object": (LIMIT, lambda: b'{"a":' * 3_000_000),
    "lists in objects": (TABLE, lambda: (b'{"hour":[' + b"[]," * 330_000 + b"[]]}\n") * 16),
    "a key a line": (LIMIT, lambda: b"\n".join(b'{"k%d":1}' % n for n in range(1_000_000))),
    "blank lines of objects": (LIMIT, lambda: b'{"hour":1}\n' + b"\n" * 15_000_000),
}


def results_of(files: Iterable[bytes], folder: Path) -> Iterator[tuple[str, float, float, float]]:
    """For each file: its outcome, its seconds, and the megabytes that reader and children have taken so far."""
    paths = []
    for number, content in enumerate(files):
        paths.append(folder / str(number))
        paths[-1].write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, paths)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        yield tuple(json.loads(line))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float, float, float]]:
    files = (make() for _, make in HOSTILE.values())
    return dict(zip(HOSTILE, results_of(files, tmp_path_factory.mktemp("hostile")), strict=True))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_little_time_and_memory(
    name: str, outcomes: dict[str, tuple[str, float, float, float]]
) -> None:
    outcome, seconds, own, child = outcomes[name]
    assert outcome == HOSTILE[name][0]
    assert seconds < SECONDS
    assert own < MEGABYTES
    assert child < CHILDREN


def test_a_file_that_was_changed_anywhere_is_read_or_refused_in_little_time_and_memory(tmp_path: Path) -> None:
    chance = random.Random(20)
    books = [changed_book(chance) for _ in range(40)]
    texts = [changed(csv(",".join(map(str, ROW)) + "\n") * 20, chance) for _ in range(200)]
    outcomes = list(results_of(books + texts, tmp_path))
    assert {outcome for outcome, *_ in outcomes} <= {"read", LIMIT, TABLE, ROWS, BROKEN}
    assert len({outcome for outcome, *_ in outcomes[:40]}) > 1
    assert max(seconds for _, seconds, _, _ in outcomes) < SECONDS
    assert outcomes[-1][2] < MEGABYTES
    assert outcomes[-1][3] < CHILDREN


def changed(content: bytes, chance: random.Random) -> bytes:
    """The content with some pieces removed, repeated often, or replaced by bytes with a meaning in such files."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(content) + 1)
        end = start + chance.choice([0, 1, 4, 40])
        piece = chance.choice(
            [b"", content[start:end] * chance.choice([2, 1_000, 50_000]), bytes([chance.randrange(256)]), b'"', b"\n",
             b"</row>", b"<c>", b"&amp;", b"999999999", b"-1", b"1e999", b"NaN", b"\0", b"\xf0\x9f\x98\x80"]
        )  # fmt: skip
        content = content[:start] + piece + content[end:]
    return content


def changed_book(chance: random.Random) -> bytes:
    """A workbook with one part, or sometimes the archive itself, changed."""
    whole = book(HEAD + GOOD * 5, texts="<si><t>Clear</t></si>", styles='<cellXfs><xf numFmtId="14"/></cellXfs>')
    if chance.random() < 0.2:
        return changed(whole, chance)
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(content, "w") as copy:
        one = chance.choice(source.namelist())
        for name in source.namelist():
            copy.writestr(name, changed(source.read(name), chance) if name == one else source.read(name))
    return content.getvalue()


def test_a_service_answers_others_while_it_refuses_hostile_uploads(server: Server) -> None:
    (worker,) = children_of(server.process.pid)
    before = peak_of(worker)
    names = ["a header cell of commas", "cells in the last column", "nested styles", "one sheet under many names"]
    answers: list[int] = []
    uploads = [
        threading.Thread(target=lambda name=name: answers.append(upload(server, HOSTILE[name][1]()))) for name in names
    ]
    for thread in uploads:
        thread.start()
    healthy = 0
    while any(thread.is_alive() for thread in uploads):
        with urllib.request.urlopen(f"{server.url}/health", timeout=30) as answer:
            healthy += answer.status == 200
    assert healthy
    assert sorted(answers) == [413, 413, 413, 413]
    assert peak_of(worker) - before < MEGABYTES
    assert children_of(server.process.pid) == [worker]
    wait_until(lambda: not children_of(worker), 30, "A child of the worker is left.")


def upload(server: Server, content: bytes) -> int:
    """The status of the answer to an XLSX file, once it is not that the service is busy."""
    body = (
        b'--limit\r\nContent-Disposition: form-data; name="fileupload"; filename="a.xlsx"\r\n\r\n'
        + content
        + b"\r\n--limit--\r\n"
    )
    request = urllib.request.Request(
        f"{server.url}/outputs_upload/bikes", body, {"Content-Type": "multipart/form-data; boundary=limit"}
    )
    for _ in range(120):
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            if error.code != 503:
                return error.code
            time.sleep(int(error.headers["Retry-After"]))
    return 503


def peak_of(pid: int) -> float:
    """The peak memory of a process, in megabytes."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
