"""What a run is given and what it leaves: parameters, typed rows, the record, the run itself."""

from ivit_helpers.record.parameters import (
    NOTEBOOKS,
    AccuracyParameters,
    BenchmarkParameters,
    Parameters,
    SmokeParameters,
    described,
    of_notebook,
    parse,
    question,
    share_out,
)
from ivit_helpers.record.record import (
    RAN_TO_ITS_END,
    SYMBOLS,
    AccuracyRecord,
    AnyRecord,
    BenchmarkRecord,
    SmokeRecord,
    json_schema,
    read,
    write,
    write_whole,
)
from ivit_helpers.record.rows import (
    OUTCOMES,
    AccuracyRow,
    Attempt,
    BenchmarkRow,
    Check,
    Conditions,
    Latency,
    ModelFacts,
    Ratio,
    SmokeRow,
    TimingRow,
)
from ivit_helpers.record.run import Conclusion, Run, new_record, run_folder, start

__all__ = [
    "NOTEBOOKS", "OUTCOMES", "RAN_TO_ITS_END", "SYMBOLS", "AccuracyParameters", "AccuracyRecord", "AccuracyRow", "AnyRecord", "Attempt",
    "BenchmarkParameters", "BenchmarkRecord", "BenchmarkRow", "Check", "Conclusion", "Conditions", "Latency", "ModelFacts",
    "Parameters", "Ratio", "Run", "SmokeParameters", "SmokeRecord", "SmokeRow", "TimingRow", "described", "json_schema", "new_record",
    "of_notebook", "parse", "question", "read", "run_folder", "share_out", "start", "write", "write_whole",
]  # fmt: skip
