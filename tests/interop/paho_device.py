"""A device on Eclipse Paho, driven by tests/tests/interop.rs.

Reads one JSON object from standard input (host, port, version, device, password, task and the task's own fields), carries the
task out, and prints one JSON object of what the hub answered. Waits are for events and have a limit; nothing is tried twice.
"""

import json
import queue
import socket
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

WAIT_S = 30
PROTOCOLS = {"3": mqtt.MQTTv311, "5": mqtt.MQTTv5}


class Device:
    """One connection; every callback becomes an item of `events`."""

    def __init__(self, job, client_id=None, will=None):
        self.events = queue.Queue()
        self.v5 = job["version"] == "5"
        kind = {} if self.v5 else {"clean_session": job.get("clean", True)}
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id or job["device"], protocol=PROTOCOLS[job["version"]], **kind
        )
        self.client.username_pw_set(job["device"], job["password"])
        if will:
            self.client.will_set(will["topic"], will["payload"], qos=1)
        tell = self.events.put
        self.client.on_connect = lambda c, u, flags, code, p: tell(("connect", code.value, flags.session_present))
        self.client.on_disconnect = lambda c, u, flags, code, p: tell(("disconnect", code.value))
        self.client.on_publish = lambda c, u, mid, code, p: tell(("publish", mid, code.value))
        self.client.on_subscribe = lambda c, u, mid, codes, p: tell(("subscribe", [code.value for code in codes]))
        self.client.on_message = lambda c, u, m: tell(("message", m.topic, m.payload.decode(), m.retain))
        self.job = job

    def connect(self):
        extra = {"clean_start": True} if self.v5 else {}
        self.client.connect(self.job["host"], self.job["port"], **extra)
        self.client.loop_start()
        return self.wait("connect")

    def wait(self, kind):
        """The next event of a kind; others are passed over."""
        while True:
            event = self.events.get(timeout=WAIT_S)
            if event[0] == kind:
                return event

    def publish(self, topic, payload, qos):
        """Publishes and waits for the acknowledgement; its reason code."""
        info = self.client.publish(topic, payload, qos=qos)
        while True:
            _, mid, code = self.wait("publish")
            if mid == info.mid:
                return code

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def readings(job):
    """Publishes readings one after the other; the reason code of each acknowledgement."""
    device = Device(job)
    connected = device.connect()
    codes = [device.publish(r["topic"], r["payload"], r["qos"]) for r in job["readings"]]
    device.close()
    return {"connect": connected[1], "codes": codes}


def refused(job):
    """Connects and tells how that was answered."""
    device = Device(job, client_id=job.get("client_id"))
    answer = device.connect()
    device.close()
    return {"connect": answer[1]}


def takeover(job):
    """Two connections under one client id: what the first one hears."""
    first, second = Device(job), Device(job)
    first.connect()
    # The first must not fight back.
    first.client.reconnect_delay_set(min_delay=WAIT_S, max_delay=WAIT_S)
    second.connect()
    heard = first.wait("disconnect")
    code = second.publish(job["topic"], job["payload"], 1)
    first.client.loop_stop()
    second.close()
    return {"first": heard[1], "second": code}


def will(job):
    """A device dies without a word; another program of it hears its will."""
    watcher = Device(job, client_id=job["device"] + "/watcher")
    watcher.connect()
    watcher.client.subscribe(job["will"]["topic"], qos=1)
    granted = watcher.wait("subscribe")[1]
    dying = Device(job, will=job["will"])
    dying.connect()
    dying.client.loop_stop()
    dying.client.socket().shutdown(socket.SHUT_RDWR)
    message = watcher.wait("message")
    watcher.close()
    return {"granted": granted, "topic": message[1], "payload": message[2]}


def properties(job):
    """MQTT 5: what the hub tells of its limits in CONNACK, and a topic alias in use."""
    device = Device(job)
    told = {}

    def on_connect(client, userdata, flags, code, props):
        told.update(props.json())
        device.events.put(("connect", code.value, flags.session_present))

    device.client.on_connect = on_connect
    device.connect()
    codes = []
    for topic, reading in [(job["topic"], job["payloads"][0]), ("", job["payloads"][1])]:
        alias = Properties(PacketTypes.PUBLISH)
        alias.TopicAlias = 1
        info = device.client.publish(topic, reading, qos=1, properties=alias)
        codes.append(device.wait("publish")[2])
        assert info.rc == mqtt.MQTT_ERR_SUCCESS
    device.close()
    return {"told": told, "codes": codes}


TASKS = {task.__name__: task for task in (readings, refused, takeover, will, properties)}

if __name__ == "__main__":
    wanted = json.load(sys.stdin)
    print(json.dumps(TASKS[wanted["task"]](wanted)))
