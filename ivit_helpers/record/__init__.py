"""What a run is given and what it leaves: parameters, typed rows, the record, the run itself."""

from ivit_helpers.record.folder import RunFolder, check_folder, is_used
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
from ivit_helpers.record.run import RUN_ID, Conclusion, Run, new_id, new_record, start

__all__ = [
    "NOTEBOOKS", "OUTCOMES", "RAN_TO_ITS_END", "RUN_ID", "SYMBOLS", "AccuracyParameters", "AccuracyRecord", "AccuracyRow", "AnyRecord",
    "Attempt", "BenchmarkParameters", "BenchmarkRecord", "BenchmarkRow", "Check", "Conclusion", "Conditions", "Latency", "ModelFacts",
    "Parameters", "Ratio", "Run", "RunFolder", "SmokeParameters", "SmokeRecord", "SmokeRow", "TimingRow", "check_folder", "described",
    "is_used", "json_schema", "new_id", "new_record", "of_notebook", "parse", "question", "read", "share_out", "start", "write",
    "write_whole",
]  # fmt: skip
