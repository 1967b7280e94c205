"""Encodes points with influxdb-client, which shares no code with the hub: JSON in, JSON out."""

import json
import sys

from influxdb_client import Point

lines = []
for told in json.load(sys.stdin):
    point = Point("reading").time(told["ns"])
    for key, value in told["tags"].items():
        point = point.tag(key, value)
    for key, value in told["fields"].items():
        point = point.field(key, value)
    lines.append(point.to_line_protocol())
json.dump(lines, sys.stdout)
