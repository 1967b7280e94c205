"""What epcpy and biip, written by others, make of tags and barcodes.

Reads lines of JSON from standard input and answers each with one: {"hex": …} with {"pure", "elements", "key"} by epcpy,
{"code": …} with {"elements"} by biip; {"error": …} when the library refuses.
"""

import json
import sys

import biip
import epcpy.utils.parsers as epc


def tag(memory):
    told = epc.hex_to_tag_encodable(memory)
    return {
        "pure": told.epc_uri,
        "elements": told.gs1_element_string(),
        "key": told.gs1_key(),
    }


def barcode(code):
    message = biip.parse(code).gs1_message
    if message is None:
        return {"error": "no GS1 message"}
    return {"elements": "".join(f"({e.ai.ai}){e.value}" for e in message.element_strings)}


for line in sys.stdin:
    asked = json.loads(line)
    try:
        answer = tag(asked["hex"]) if "hex" in asked else barcode(asked["code"])
    except Exception as error:  # whatever a library raises is a refusal
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
