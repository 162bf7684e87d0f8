"""Messages of remote read, described here rather than in generated files.

Format: prometheus/prometheus prompb/{remote,types}.proto of v3.14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# Field name, number and type of the messages; unknown fields are passed over
_INT, _DOUBLE, _TEXT, _BYTES, _ENUM = "int64", "double", "string", "bytes", "int32"
_MESSAGES: Final[Mapping[str, Sequence[tuple[str, int, str, bool]]]] = {
    "Label": [("name", 1, _TEXT, False), ("value", 2, _TEXT, False)],
    "LabelMatcher": [
        ("type", 1, _ENUM, False), ("name", 2, _TEXT, False), ("value", 3, _TEXT, False),
    ],
    "Query": [
        ("start_timestamp_ms", 1, _INT, False), ("end_timestamp_ms", 2, _INT, False),
        ("matchers", 3, "LabelMatcher", True),
    ],
    "ReadRequest": [
        ("queries", 1, "Query", True), ("accepted_response_types", 2, _ENUM, True),
    ],
    "Sample": [("value", 1, _DOUBLE, False), ("timestamp", 2, _INT, False)],
    # Histograms are only counted
    "TimeSeries": [
        ("labels", 1, "Label", True), ("samples", 2, "Sample", True),
        ("histograms", 4, _BYTES, True),
    ],
    "QueryResult": [("timeseries", 1, "TimeSeries", True)],
    "ReadResponse": [("results", 1, "QueryResult", True)],
    "Chunk": [("type", 3, _ENUM, False), ("data", 4, _BYTES, False)],
    "ChunkedSeries": [("labels", 1, "Label", True), ("chunks", 2, "Chunk", True)],
    "ChunkedReadResponse": [("chunked_series", 1, "ChunkedSeries", True)],
}  # fmt: skip


@cache
def message_class(name: str) -> Any:
    """Give the class of a message; its description is made here rather than in a generated file."""
    file = descriptor_pb2.FileDescriptorProto(name="capacity/remote_read.proto", syntax="proto3")
    file.package = "capacity"
    field_type = descriptor_pb2.FieldDescriptorProto
    for message_name, fields in _MESSAGES.items():
        described = file.message_type.add(name=message_name)
        for field_name, number, kind, is_repeated in fields:
            field = described.field.add(name=field_name, number=number)
            field.label = field_type.LABEL_REPEATED if is_repeated else field_type.LABEL_OPTIONAL
            if kind in _MESSAGES:
                field.type, field.type_name = field_type.TYPE_MESSAGE, f".capacity.{kind}"
            else:
                field.type = field_type.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"capacity.{name}"))
