"""What the catalogue knows by name only, what it does not know, and what is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterator, List

from . import frames, texts
from .people import Account, Fan

if TYPE_CHECKING:
    from .evening import Evening

# An evening of 20,000 frames sees all of them, a short one the first few.
MALFORMED_EVERY_FRAMES = 700
HOSTILE_EVERY_FRAMES = 150


def stream_frame(evening: "Evening", account: Account, fan: Fan, stream_id: int, act: str) -> None:
    """Stream frames whose names are known and whose shapes are not: plausible ones."""
    owner = str(account.id)
    who = {"stream_user_id": owner, "stream_id": str(stream_id), "user": frames.bare(fan.id)}
    frame = {
        "look": {"stream_look": who},
        "unlook": {"stream_unlook": who},
        "comment": {"stream_comment": dict(who, comment=evening.dice.pick(texts.LANGUAGES + texts.EMOJI + ["hello from work", "louder!"]))},
        "update": {"stream_update": {"stream_id": str(stream_id), "stream_user_id": owner, "viewers": evening.dice.below(90)}},
        "old": {"stream_like": {"stream_user_id": owner, "x": 0, "y": 0}},
    }[act]
    evening.emit(account, frame)


def hostile(evening: "Evening") -> Iterator[int]:
    """Every hostile text once; in a short evening some of them."""
    few = texts.HOSTILE[:: max(1, len(texts.HOSTILE) * HOSTILE_EVERY_FRAMES // evening.plan.frames)]
    for text in few:
        account = evening.dice.pick(evening.accounts)
        fan = evening.dice.pick(account.fans)
        sender = frames.bare(fan.id) if fan.never_shown else fan.profile(evening.stamp())
        evening.emit(account, {"api2_chat_message": frames.message(evening.message_id(), text, sender, evening.stamp())})
        yield evening.plan.minutes * 60_000 * 9 // 10 // len(few)


def unknown_keys(evening: "Evening") -> Iterator[int]:
    """Keys that the catalogue does not describe, alone and beside others, all evening long."""
    dice = evening.dice
    while True:
        account = dice.pick(evening.accounts)
        fan = dice.pick(account.fans)
        evening.emit(
            account,
            dice.pick(
                [
                    {"syncInProcess": dice.chance(0.5)},
                    {"newTagsCount": dice.below(9)},
                    {"online_status": {"id": fan.id, "status": "online"}},
                    {"tip": {"id": dice.below(10_000), "amount": 5, "user": frames.bare(fan.id)}},
                    {"purchase": {"id": dice.below(10_000)}},
                    {"messageUnlock": {"messageId": evening.message_id(), "userId": fan.id}},
                    {"chat_reaction": {"message_id": evening.message_id(), "emoji": "🎈", "user": fan.user()}},
                    {"typing": {"id": fan.id}, "chat_reaction": {"emoji": "🧁"}},
                    {"chat_messages": len(account.unread), "experiments": ["a", "b"], "": None},
                    {"weather_in_the_office": [[["deep", {"er": [1, 2.50, None]}]]]},
                ]
            ),
        )
        yield dice.between(8_000, 50_000)


def malformed(evening: "Evening", account: Account) -> Iterator[int]:
    """Every way to be broken once, spread over the evening; of a short evening only the first few."""
    kinds = _malformed_kinds()
    few = kinds[: max(3, min(len(kinds), evening.plan.frames // MALFORMED_EVERY_FRAMES))]
    for make in few:
        make(evening, account)
        yield evening.plan.minutes * 60_000 * 17 // 20 // len(few)


def long_story(evening: "Evening", account: Account) -> Iterator[int]:
    """No error, but longer than the 64 KiB up to which an event carries its source item."""
    text = "<p>" + "And then it got even longer. " * 2_500 + "</p>"
    message = frames.message(evening.message_id(), text, frames.bare(account.fans[-1].id), evening.stamp())
    evening.emit(account, {"api2_chat_message": message})
    yield 1


def _malformed_kinds() -> List[Callable[["Evening", Account], None]]:
    def text(frame: str) -> Callable[["Evening", Account], None]:
        """What is no JSON."""
        return lambda evening, account: evening.emit_garbage(account, frame)

    def json(frame: str) -> Callable[["Evening", Account], None]:
        """What is JSON and makes no sense. `@` stands for a message id."""
        return lambda evening, account: evening.emit_text(account, frame.replace("@", str(evening.message_id())))

    fan = '"media":[],"fromUser":{"id":100000003}'
    deep = 200
    return [
        text('{"api2_chat_message":{"id":6400000000001,"text":"<p>cut of'),
        json('{"api2_chat_message":{"id":@,"text":["a list"],"price":0,' + fan + "}}"),
        json("[1,2,3]"),
        text("Please refresh the page"),
        text(""),
        json("null"),
        json("42"),
        text('"a JSON string"'),
        json('{"api2_chat_message":"gone"}'),
        json('{"api2_chat_message":{"id":{"a":1},"text":"x",' + fan + "}}"),
        json('{"api2_chat_message":{"id":@,"text":"x","price":"free",' + fan + "}}"),
        json('{"api2_chat_message":{"id":@,"text":"x","price":1e400,' + fan + "}}"),
        json('{"api2_chat_message":{"id":64000000000016400000000000164000000000001,"text":"x","price":0,' + fan + "}}"),
        json('{"api2_chat_message":{"id":@,"text":"x","price":0,"media":[],"fromUser":7}}'),
        json('{"api2_chat_message":{"id":@,"text":"x","price":0,"createdAt":"yesterday",' + fan + "}}"),
        json('{"api2_chat_message":{"text":"no id","price":0,' + fan + "}}"),
        json('{"api2_chat_message":{"id":@,"text":"no recipient","price":0,"media":[],"fromUser":{"id":200000001}}}'),
        json('{"api2_chat_message":{"id":@,"text":"lone surrogate \\ud83d","price":0,' + fan + "}}"),
        json('{"typing":{"id":[100000003]}}'),
        json('{"typing":null}'),
        text('{"chat_messages":NaN}'),
        text('{"typing":{"id":100000003}} and more'),
        text('\ufeff{"typing":{"id":100000003}}'),
        json('{"chat_messages":-1}'),
        json('{"new_message":[1]}'),
        json('{"toasts":7}'),
        json('{"subscribed":{"user":{"id":100000003},"timestamp":"soon"}}'),
        json('{"api2_chat_message":{"id":@,"text":7,"price":0,' + fan + '},"typing":{"id":100000003}}'),
        json('{"nested":' + "[" * deep + "]" * deep + "}"),
    ]
