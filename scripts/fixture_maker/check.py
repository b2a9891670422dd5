"""Reads a finished recording back: does every frame have the source's shape, and is everything in it that it promises?

Written apart from the code that makes frames: the key sets below are the catalogue's.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter, deque
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

MESSAGE = set(
    """id responseType text giphyId lockedText isFree price isMediaReady mediaCount media previews isTip tipAmount isReportedByMe
    isCouplePeopleMedia queueId isMarkdownDisabled releaseForms fromUser isFromQueue canUnsendQueue unsendSecondsQueue isOpened isNew
    createdAt changedAt cancelSeconds isLiked canPurchase canPurchaseReason canReport canBePinned isPinned""".split()
)
MESSAGE_MORE = {"toUser", "tipText", "replyToMessage", "openedAt"}
MESSAGE_LEAST = {"id", "text", "price", "fromUser", "media"}
MEDIA = set(
    """id type canView hasError isReady createdAt convertedToVideo duration hasCustomPreview files videoSources""".split()
)
PROFILE = set(
    """id name username avatar avatarThumbs isVerified canEarn subscribedBy subscribedByExpireDate subscribedByAutoprolong subscribedOn
    subscribedOnExpiredNow subscribedOnDuration listsStates isRestricted displayName notice lastSeen""".split()
)
USER = {"id", "name", "username", "avatar"}
NOTIFICATION = set("id type subType text user_id isRead canGoToProfile newPrice amountGross amountNet user".split())
TOAST = {"id", "title", "text", "type", "data"}
STREAM_TIP = {"id", "from_user", "stream_user_id", "stream_id", "amount", "amount_human", "message"}
STORY_TIP = {"id", "from_user", "story_user_id", "story_id", "amount", "amount_human", "message"}
QUEUE = set("id date isReady isDone total pending canUnsend unsendSeconds hasError isCanceled".split())

# Keys that go with another one and mean nothing alone.
COMPANIONS = {"hasSystemNotifications", "is_show_tips", "tips_count", "tips_summ", "count_priority_chat", "unread_tips"}


class Wrong(Exception):
    """A frame is not what the catalogue says."""


class Line(NamedTuple):
    number: int
    t_ms: int
    account: str
    frame: Any
    raw: str


def read(path: Path) -> Iterator[Line]:
    """The lines of a recording; raises Wrong where one is none."""
    opener = gzip.open if path.suffix == ".gz" else open
    last = 0
    with opener(path, "rt", encoding="utf-8", newline="\n") as lines:
        for number, raw in enumerate(lines, 1):
            line = json.loads(raw)
            if set(line) - {"t0"} != {"t_ms", "account", "frame"} or ("t0" in line) != (number == 1):
                raise Wrong(f"line {number}: the keys are {sorted(line)}")
            if not isinstance(line["t_ms"], int) or line["t_ms"] < last or not line["account"].isdigit():
                raise Wrong(f"line {number}: t_ms goes back, or the account is none")
            last = line["t_ms"]
            yield Line(number, line["t_ms"], line["account"], line["frame"], raw)


def start_of(path: Path) -> datetime:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        first = json.loads(next(lines, "null"))
        if not isinstance(first, dict) or "t0" not in first:
            raise Wrong("line 1: there is no t0")
        return _time(first["t0"].replace(".000Z", "+00:00"))


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")


# Shapes.


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise Wrong(what)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e15


def _user(value: Any) -> None:
    _need(isinstance(value, dict) and isinstance(value.get("id"), int), "a user without an id")
    _need(set(value) in ({"id"}, USER, PROFILE), f"a user with the keys {sorted(value)}")


def _message(value: Any) -> None:
    _need(isinstance(value, dict), "a chat message that is no object")
    keys = set(value)
    _need(keys >= {"id"}, "a message without an id")
    # Whole, or the least; a broken one may be the least and a time.
    whole = MESSAGE <= keys <= MESSAGE | MESSAGE_MORE
    _need(whole or keys in (MESSAGE_LEAST, MESSAGE_LEAST | {"createdAt"}), f"a message with the keys {sorted(keys)}")
    _need(isinstance(value["id"], int) and 10**12 <= value["id"] < 10**14, "a message id that is none")
    _need(isinstance(value["text"], str), "a text that is none")
    value["text"].encode("utf-8")
    _need(_number(value["price"]), "a price that is no number")
    _user(value["fromUser"])
    if "toUser" in value:
        _user(value["toUser"])
    else:
        _need(not str(value["fromUser"]["id"]).startswith("2"), "outbound without a recipient")
    for item in value["media"]:
        _need(set(item) == MEDIA and item["files"]["full"]["url"].startswith("https://cdn.example/"), "a medium of another shape")
    if whole or "createdAt" in value:
        _need(value["createdAt"].endswith("+00:00") and len(value["createdAt"]) == 25, "a time of another form")
        _need(_time(value["changedAt"]) >= _time(value["createdAt"]), "changed before it was created")
        _need(value["mediaCount"] == len(value["media"]) and isinstance(value["isTip"], bool), "a message at odds with itself")
        _need(value["tipAmount"] is None or _number(value["tipAmount"]), "a tip that is no number")
    if "replyToMessage" in value:
        _message(value["replyToMessage"])


def _notification(value: Any) -> None:
    _need(isinstance(value, dict) and set(value) - {"replacePairs"} == NOTIFICATION, "keys of a notification")
    _need(isinstance(value["id"], str) and value["user_id"].startswith("2"), "ids of a notification")
    _user(value["user"])
    if value["type"] == "tip":
        _need(_number(value["amountGross"]) and value["amountNet"] <= value["amountGross"], "amounts of a tip")
    if value["type"] == "paided_message":
        _need("?firstId=64" in value["replacePairs"]["{MESSAGE_LINK}"], "the link of an unlock")
    if value["type"].startswith("paided"):
        _need(any(str(pair).startswith("$") for pair in value["replacePairs"].values()), "the amount of a purchase")


def _toasts(value: Any) -> None:
    for item in [value] if isinstance(value, dict) else value:
        _need(set(item) == TOAST and set(item["data"]) == {"code", "template", "replacements", "relatedUser"}, "keys of a toast")


def _keys(*wanted: str):
    def check(value: Any) -> None:
        _need(isinstance(value, dict) and set(value) == set(wanted), f"not the keys {wanted}")

    return check


def _of(kind: type):
    def check(value: Any) -> None:
        _need(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), f"not of type {kind.__name__}")
        _need(kind is not int or value >= 0, "a count below zero")

    return check


def _digits(value: Any) -> None:
    _need(isinstance(value, str) and value.isdigit(), "not an id in a string")


def _anything(value: Any) -> None:
    """For keys of which only the name is known."""
    _need(value is not None, "nothing")


def _subscribed(value: Any) -> None:
    _keys("user", "timestamp")(value)
    _user(value["user"])
    _of(int)(value["timestamp"])


def _typing(value: Any) -> None:
    _keys("id")(value)
    _of(int)(value["id"])


CATALOGUE = {
    "api2_chat_message": _message,
    "online": lambda value: _need(all(isinstance(user, int) for user in value), "online"),
    "typing": _typing,
    "chat_messages": _of(int),
    "count_priority_chat": _of(int),
    "unread_tips": _of(int),
    "messages": _of(int),
    "hasSystemNotifications": _of(bool),
    "has_new_hints": _of(bool),
    "new_message": _notification,
    "subscribed": _subscribed,
    "toasts": _toasts,
    "chat_message_delete": _digits,
    "chat_queue_update": _keys(*QUEUE),
    "post_published": _keys("id", "user_id", "show_posts_in_feed"),
    "post_updated": _digits,
    "post_expire": _digits,
    "post_fundraising_updated": _keys("id", "fundRaising"),
    "stories": lambda value: [_keys("id", "userId", "canLike", "media")(story) for story in value] and None,
    "story_tips": _keys(*STORY_TIP),
    "stream_start": _keys("stream_id", "userId"),
    "stream_stop": _keys("stream_id", "stream_user_id"),
    "stream_likes": _keys("stream_user_id", "x", "y"),
    "stream_tips": _keys(*STREAM_TIP),
    "is_show_tips": _of(bool),
    "tips_count": _of(int),
    "tips_summ": lambda value: _need(_number(value), "not an amount"),
}
NAMES_ONLY = {
    name: _anything
    for name in "chat_message_like chat_message_unlike stream_update stream_look stream_unlook stream_comment stream_like".split()
}


def fault_of(frame: Any) -> Optional[str]:
    """What is wrong with a frame, or None. A key that the catalogue does not name is no fault."""
    if not isinstance(frame, dict):
        return "not an object"
    try:
        for key, value in frame.items():
            shape = CATALOGUE.get(key) or NAMES_ONLY.get(key)
            if shape is not None:
                shape(value)
            elif _depth_exceeds(value, 64):
                raise Wrong("nested too deep")
    except (Wrong, KeyError, TypeError, ValueError, AttributeError) as wrong:
        return str(wrong) or type(wrong).__name__
    return None


def _depth_exceeds(value: Any, limit: int) -> bool:
    if limit < 0:
        return True
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_depth_exceeds(item, limit - 1) for item in items)


# Counts.


class Stats:
    """What is in a recording. `kinds` counts frames by what they carry, `features` what cuts across the kinds."""

    def __init__(self, path: Path):
        self.kinds: Counter = Counter()
        self.features: Counter = Counter()
        self.faults: List[Tuple[int, str]] = []
        self.duration_ms = 0
        self.bytes = 0
        self.peak = 0
        self._t0 = start_of(path)
        self._tips: Dict[Tuple[str, int, float], List[Tuple[str, int]]] = {}
        self._newest: Dict[str, datetime] = {}
        self._messages: Dict[int, int] = {}
        self._deletes: Dict[int, int] = {}
        self._paid: Dict[Tuple[str, int], List[float]] = {}
        accounts, fans = set(), set()
        recent: Dict[str, deque] = {}
        second: deque = deque()
        for line in read(path):
            self.features["frames"] += 1
            self.duration_ms = line.t_ms
            self.bytes += len(line.raw.encode("utf-8"))
            accounts.add(line.account)
            second.append(line.t_ms)
            while second[0] <= line.t_ms - 1000:
                second.popleft()
            self.peak = max(self.peak, len(second))
            text = line.raw.split('"frame":', 1)[1]
            ring = recent.setdefault(line.account, deque(maxlen=300))
            if text in ring and text.startswith(('{"api2_chat_message"', '{"new_message"')):
                self.features["messages and notifications repeated"] += 1
            else:
                self._count(line, fans)
            ring.append(text)
        self.features["accounts"] = len(accounts)
        self.features["fans"] = len(fans)
        self._count_pairs()

    def _count(self, line: Line, fans: set) -> None:
        fault = fault_of(line.frame)
        if fault is not None:
            self.kinds["malformed"] += 1
            self.faults.append((line.number, fault))
            return
        named = [key for key in line.frame if key in CATALOGUE or key in NAMES_ONLY]
        main = [key for key in named if key not in COMPANIONS] or named
        if len(line.frame) > 1:
            self.features["frames with several keys"] += 1
        if len(main) > 1:
            self.features["frames with several events"] += 1
        for key in line.frame:
            if key not in CATALOGUE and key not in NAMES_ONLY:
                self.kinds["unknown key"] += 1
        for key in main:
            value = line.frame[key]
            if key == "api2_chat_message":
                self._count_message(line, value, fans)
            elif key == "new_message":
                self._count_notification(line, value)
                fans.add(value["user"]["id"])
            else:
                self.kinds[f"`{key}`"] += 1
                if key == "chat_message_delete":
                    self._deletes[int(value)] = line.number
                elif key in ("story_tips", "stream_tips"):
                    self._pays(line.account, value["from_user"]["id"], value["amount"])

    def _count_message(self, line: Line, value: Any, fans: set) -> None:
        self._messages.setdefault(value["id"], line.number)
        if "toUser" in value:
            fans.add(value["toUser"]["id"])
            kind = "to many (`isFromQueue`)" if value["isFromQueue"] else "of the account"
            self.features["paid messages sent"] += bool(value["price"])
            self.features["paid messages opened"] += "openedAt" in value
        else:
            kind = "tip" if value.get("isTip") else "of a fan"
            self.features["messages of fans"] += 1
            self.features["messages of fans with a bare sender"] += set(value["fromUser"]) == {"id"}
            self.features["messages of fans on a list"] += any(state["type"] == "custom" for state in value["fromUser"].get("listsStates", ()))
            fans.add(value["fromUser"]["id"])
        self.kinds[f"`api2_chat_message`, {kind}"] += 1
        if value.get("isTip"):
            amount = value["tipAmount"] or value["price"]
            self._tips.setdefault((line.account, value["fromUser"]["id"], amount), []).append(("message", line.t_ms))
        self._count_text(value["text"])
        self.features["messages with media"] += bool(value["media"])
        if "createdAt" not in value:
            return
        created = _time(value["createdAt"])
        arrived = self._t0 + timedelta(milliseconds=line.t_ms)
        _need(timedelta(0) <= arrived - created or "openedAt" in value, f"line {line.number}: created after it arrived")
        _need(arrived - created < timedelta(minutes=20), f"line {line.number}: created long before it arrived")
        newest = self._newest.setdefault(line.account, created)
        if created < newest - timedelta(seconds=1) and "openedAt" not in value:
            self.features["messages out of order"] += 1
        self._newest[line.account] = max(newest, created)

    def _count_notification(self, line: Line, value: Any) -> None:
        self.kinds[f"`new_message`, `{value['type']}` / `{value['subType']}`"] += 1
        fan = value["user"]["id"]
        if value["type"] == "tip":
            self._tips.setdefault((line.account, fan, value["amountGross"]), []).append(("notification", line.t_ms))
        if value["type"] == "paided_message":
            self._pays(line.account, fan, float(value["replacePairs"]["{AMOUNT}"][1:]))
        self.features["notifications with the id \"0\""] += value["id"] == "0"

    def _pays(self, account: str, fan: int, amount: float) -> None:
        self._paid.setdefault((account, fan), []).append(amount)

    def _count_text(self, text: str) -> None:
        self.features["texts right to left"] += any("\u0590" <= char <= "\u08ff" for char in text)
        self.features["texts with emoji"] += any(char >= "\U0001f300" for char in text)
        self.features["texts with control or bidi characters"] += any(
            (char < " " and char != "\n")
            or "\u007f" <= char <= "\u009f"
            or ("\u200b" <= char <= "\u202e" and char != "\u200d")
            or "\u2060" <= char <= "\u2069"
            for char in text
        )
        self.features["texts with a script"] += "<script" in text or "javascript:" in text
        self.features["texts over 1,000 characters"] += len(text) > 1_000

    def _count_pairs(self) -> None:
        """Tips in both shapes: the same fan, the same money, within 120 seconds."""
        for (account, fan, amount), seen in self._tips.items():
            messages = sorted(t for shape, t in seen if shape == "message")
            notifications = sorted(t for shape, t in seen if shape == "notification")
            pairs = 0
            for t in messages:
                near = next((n for n in notifications if abs(n - t) <= 120_000), None)
                if near is not None:
                    notifications.remove(near)
                    pairs += 1
            self.features["tips in both shapes"] += pairs
            self.features["tips in one shape"] += len(seen) - 2 * pairs
            self.features["fans who tip the same twice"] += len(messages) > 1
            for _ in range(len(seen) - pairs):
                self._pays(account, fan, amount)
        self.features["fans who paid $100 at once or $500 in all"] = sum(
            1 for paid in self._paid.values() if max(paid) >= 100 or sum(paid) >= 500
        )
        for message, number in self._deletes.items():
            written = self._messages.get(message)
            when = "of unknown messages" if written is None else "after the message" if written < number else "before the message"
            self.features[f"deletes {when}"] += 1

    def table(self) -> Dict[str, str]:
        """Rows for people: name and value."""
        rows = {"minutes": f"{self.duration_ms / 60_000:.1f}", "frames in the busiest second": f"{self.peak:,}"}
        rows["bytes, unpacked"] = f"{self.bytes:,}"
        for name in ("frames", "accounts", "fans"):
            rows[name] = f"{self.features[name]:,}"
        for name in sorted(self.features):
            rows.setdefault(name, f"{self.features[name]:,}")
        for name in sorted(self.kinds):
            rows[name] = f"{self.kinds[name]:,}"
        return rows


def markdown(stats: Dict[str, Stats]) -> str:
    """One table, a recording a column."""
    tables = {name: stat.table() for name, stat in stats.items()}
    rows: List[str] = []
    for table in tables.values():
        rows += [name for name in table if name not in rows]
    head = [f"| | {' | '.join(tables)} |", "|---|" + "---:|" * len(tables)]
    plain = [name for name in rows if name[0] != "`" and name not in ("malformed", "unknown key")]
    kinds = sorted(name for name in rows if name not in plain)
    body = [f"| {name} | {' | '.join(table.get(name, '0') for table in tables.values())} |" for name in plain + kinds]
    return "\n".join(head + body) + "\n"


def missing(stats: Stats, frames: int, accounts: int, fans: int) -> List[str]:
    """What a full evening promises and this one lacks. The numbers are floors for 20,000 frames."""
    part = min(1.0, frames / 20_000)
    floors = {
        "messages and notifications repeated": 200,
        "messages out of order": 60,
        "frames with several keys": 1_000,
        "frames with several events": 60,
        "paid messages sent": 300,
        "paid messages opened": 15,
        "tips in both shapes": 100,
        "tips in one shape": 40,
        "deletes after the message": 40,
        "deletes before the message": 8,
        "deletes of unknown messages": 10,
        "texts right to left": 30,
        "texts with emoji": 500,
        "texts with control or bidi characters": 20,
        "texts with a script": 3,
        "texts over 1,000 characters": 10,
        "messages with media": 200,
        "messages of fans on a list": 20,
        "fans who paid $100 at once or $500 in all": 5,
    }
    lacks = [f"{name}: {stats.features[name]}" for name, floor in floors.items() if stats.features[name] < int(floor * part)]
    kinds = [f"`{key}`" for key in CATALOGUE if key not in COMPANIONS and key not in ("api2_chat_message", "new_message")]
    kinds += [f"`new_message`, `subscribed` / `{sub}`" for sub in ("new_subscriber", "returning_subscriber", "subscribe_was_expired")]
    kinds += ["`new_message`, `paided_message` / `subscriber_pay_for_chat_message`", "`new_message`, `tip` / `new_tips`"]
    kinds += ["`api2_chat_message`, of the account", "`api2_chat_message`, to many (`isFromQueue`)", "unknown key"]
    lacks += [f"no {kind}" for kind in kinds if stats.kinds[kind] == 0]
    if part == 1.0:
        if not 12 <= stats.kinds["malformed"] <= 40:
            lacks.append(f"malformed frames: {stats.kinds['malformed']}")
    bare = stats.features["messages of fans with a bare sender"] / max(1, stats.features["messages of fans"])
    if not 0.7 <= bare <= 0.9:
        lacks.append(f"bare senders are {bare:.0%}")
    if stats.features["frames"] != frames or stats.features["accounts"] != accounts:
        lacks.append(f"{stats.features['frames']} frames of {stats.features['accounts']} accounts")
    if part == 1.0 and stats.features["fans"] < fans * 95 // 100:
        lacks.append(f"only {stats.features['fans']} fans")
    return lacks
