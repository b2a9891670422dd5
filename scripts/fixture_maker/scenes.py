"""What fans do, and what is done for them. Each scene is a generator that does something and yields the milliseconds until it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, List, Optional

from . import frames, texts
from .people import Account, Fan

if TYPE_CHECKING:
    from .evening import Evening

Scene = Iterator[int]

# Answers that come late make the waiting timers fall due.
ANSWER_AFTER_MS = [(45, (4_000, 45_000)), (25, (45_000, 240_000)), (8, (300_000, 1_100_000))]
# Whether a fan buys a paid message, by habit.
BUYS = {"whale": 0.8, "generous": 0.45, "casual": 0.08, "none": 0.0}
TIPS = {"whale": 0.35, "generous": 0.09, "casual": 0.02, "none": 0.0}
# Amounts in cents: most are small, some end in odd cents.
TIP_CENTS = {"whale": (5_000, 20_000), "generous": (1_000, 5_000), "casual": (300, 1_500), "none": (300, 500)}
PPV_CENTS = [399, 500, 999, 1200, 1500, 2500, 4999]
WHALE_PPV_CENTS = [4999, 7500, 10_000, 15_000]


def alone(fan: Fan, scene: Scene) -> Scene:
    """A fan does one thing at a time."""
    fan.busy = True
    yield from scene
    fan.busy = False


# Chat.


def chat(evening: "Evening", account: Account, fan: Fan, turns: Optional[int] = None) -> Scene:
    """A conversation: the fan writes, the account answers, sooner, later or not at all; money moves now and then."""
    dice = evening.dice
    topic = dice.pick(texts.TOPICS)
    for turn in range(turns or dice.between(1, 4)):
        written: List[int] = []
        yield from _fan_writes(evening, account, fan, topic, turn, written)
        if dice.chance(TIPS[fan.spender]):
            yield evening.pause(2_000, 20_000)
            yield from tip(evening, account, fan)
        if dice.chance(0.22):
            return
        low, high = dice.weighted(ANSWER_AFTER_MS)
        yield evening.pause(low, high)
        account.unread.discard(fan.id)
        if account.shows_outbound:
            answers = 2 if dice.chance(0.15) else 1
            for number in range(answers):
                reply_to = written[-1] if number == 0 and dice.chance(0.06) else None
                account_writes(evening, account, fan, texts.from_account(dice, topic, turn), reply_to=reply_to)
                yield evening.pause(3_000, 9_000)
        if dice.chance(0.04 if fan.spender in ("casual", "none") else 0.2):
            yield from paid_message(evening, account, fan)
        yield evening.pause(3_000, 30_000)


def _fan_writes(evening: "Evening", account: Account, fan: Fan, topic: list, turn: int, written: List[int]) -> Scene:
    dice = evening.dice
    for number in range(dice.weighted([(70, 1), (22, 2), (8, 3)])):
        if dice.chance(0.75):
            typing = {"typing": {"id": fan.id}}
            evening.emit(account, typing)
            if dice.chance(0.25):
                yield evening.pause(2_500, 4_500)
                evening.emit(account, typing)
            yield evening.pause(1_500, 5_000)
        text = texts.from_fan(dice, topic, turn) if number == 0 else texts.markup(dice.pick(texts.ASIDES + texts.EMOJI), dice)
        written.append(_message_from_fan(evening, account, fan, text))
        yield evening.pause(800, 4_000)
        if dice.chance(0.35):
            evening.emit(account, chat_counters(evening, account))
        if dice.chance(0.02):
            evening.start(delete(evening, account, written[-1]), evening.pause(5_000, 60_000))


def _message_from_fan(evening: "Evening", account: Account, fan: Fan, text: str) -> int:
    dice = evening.dice
    account.unread.add(fan.id)
    message_id = evening.message_id()
    if dice.chance(0.03):
        evening.emit(account, {"api2_chat_message": frames.short_message(message_id, text, frames.bare(fan.id))})
        return message_id
    late_ms = _delivery_delay(dice)
    item = frames.message(
        message_id, text, _sender(evening, fan), evening.stamp(), attached=attach(evening, account) if dice.chance(0.05) else ()
    )
    frame = {"api2_chat_message": item}
    if late_ms == 0 and dice.chance(0.04):
        # Two independent things in one frame.
        frame = dict(chat_counters(evening, account), **frame) if dice.chance(0.5) else dict(frame, typing={"id": fan.id})
    if dice.chance(0.004):
        # The delete overtakes its message.
        evening.emit(account, {"chat_message_delete": str(message_id)})
        late_ms = dice.between(2_000, 9_000)
    evening.emit(account, frame, late_ms)
    return message_id


def _delivery_delay(dice) -> int:
    """Most messages arrive at once; some after their neighbours, a few much later."""
    return dice.weighted([(970, 0), (27, dice.between(2_000, 40_000)), (3, dice.between(120_000, 300_000))])


def account_writes(
    evening: "Evening",
    account: Account,
    fan: Fan,
    text: str,
    *,
    cents: int = 0,
    queue: int = 0,
    attached: tuple = (),
    reply_to: Optional[int] = None,
) -> dict:
    """A message of the account. Mostly with sender and recipient, sometimes with one of them left bare."""
    dice = evening.dice
    sender = frames.user(account.id, account.name) if dice.chance(0.2) else frames.bare(account.id)
    answered = None
    if reply_to is not None:
        answered = frames.short_message(reply_to, "<p>…</p>", frames.bare(fan.id))
    item = frames.message(
        evening.message_id(),
        text,
        sender,
        evening.stamp(),
        to=frames.bare(fan.id),
        price=frames.dollars(cents),
        attached=attached,
        queue=queue,
        reply_to=answered,
    )
    evening.emit(account, {"api2_chat_message": item}, _delivery_delay(dice) if queue == 0 else 0)
    return item


def _sender(evening: "Evening", fan: Fan) -> frames.Json:
    if fan.never_shown or not evening.dice.chance(0.6 if fan.lists else 0.22):
        return frames.bare(fan.id)
    return fan.profile(evening.stamp())


def attach(evening: "Evening", account: Account, can_view: bool = True, most: int = 2) -> tuple:
    dice = evening.dice
    kinds = [(60, "photo"), (20, "video"), (12, "gif"), (8, "audio")]
    return tuple(
        frames.media(evening.message_id() % 1_000_000_000, str(dice.weighted(kinds)), can_view, dice.hex(24), evening.unix() + 86_400)
        for _ in range(dice.between(1, most))
    )


def chat_counters(evening: "Evening", account: Account) -> frames.Json:
    counts = {"chat_messages": len(account.unread)}
    if evening.dice.chance(0.4):
        counts["count_priority_chat"] = len(account.unread) // 5
        counts["unread_tips"] = account.unread_tips
    return counts


def delete(evening: "Evening", account: Account, message_id: int) -> Scene:
    evening.emit(account, {"chat_message_delete": str(message_id)})
    yield 1


def stray_delete(evening: "Evening", account: Account, fan: Fan) -> Scene:
    """Someone deletes a message from before the recording."""
    evening.emit(account, {"chat_message_delete": str(6_399_000_000_000 + evening.dice.below(900_000_000))})
    yield 1


def like(evening: "Evening", account: Account, fan: Fan) -> Scene:
    """A message is liked, and sometimes no longer. The shape of these frames is not known; two plausible ones are used."""
    dice = evening.dice
    message_id = evening.message_id() - dice.between(1, 4_000)
    target = str(message_id) if dice.chance(0.5) else {"id": message_id, "user": frames.bare(fan.id)}
    evening.emit(account, {"chat_message_like": target})
    if dice.chance(0.3):
        yield evening.pause(2_000, 20_000)
        evening.emit(account, {"chat_message_unlike": target})


# Money.


def tip(evening: "Evening", account: Account, fan: Fan, shape: str = "", cents: int = 0) -> Scene:
    """A tip, as a chat message and as a notification, or as one of them only; or twice the same, which is two."""
    dice = evening.dice
    low, high = TIP_CENTS[fan.spender]
    cents = cents or dice.between(low // 100, high // 100) * 100 + dice.pick([0, 0, 0, 50, 99])
    shape = shape or str(dice.weighted([(60, "both"), (14, "message"), (14, "notification"), (12, "twice")]))
    for _ in range(2 if shape == "twice" else 1):
        account.unread_tips += 1
        steps = [s for s in ("message", "notification") if shape in (s, "both", "twice")]
        if dice.chance(0.4):
            steps.reverse()
        for number, step in enumerate(steps):
            if number:
                yield dice.between(300, 90_000) if dice.chance(0.3) else dice.between(200, 3_000)
            (_tip_message if step == "message" else _tip_notification)(evening, account, fan, cents)
        yield dice.between(1_000, 9_000)


def _tip_message(evening: "Evening", account: Account, fan: Fan, cents: int) -> None:
    dice = evening.dice
    amount = frames.dollars(cents)
    # Public code disagrees on where the amount stands; now and then it stands nowhere.
    tip_amount, price = dice.weighted([(80, (amount, 0)), (10, (None, amount)), (8, (amount, amount)), (2, (None, 0))])
    account.unread.add(fan.id)
    item = frames.message(
        evening.message_id(),
        f"I sent you a {frames.dollar_text(cents)} tip ♥",
        _sender(evening, fan),
        evening.stamp(),
        price=price,
        tip_amount=tip_amount,
        is_tip=True,
        tip_text=dice.pick(texts.TIP_NOTES),
    )
    evening.emit(account, {"api2_chat_message": item})


def _tip_notification(evening: "Evening", account: Account, fan: Fan, cents: int) -> None:
    # The platform keeps a fifth.
    net = cents * 4 // 5
    item = frames.notification(
        evening.notification_id(),
        "tip",
        "new_tips",
        f"sent you a {frames.dollar_text(cents)} tip",
        account.id,
        fan.user(),
        gross=frames.dollars(cents),
        net=frames.dollars(net),
    )
    _notify(evening, account, item)


def _notify(evening: "Evening", account: Account, item: frames.Json) -> None:
    """A notification, mostly with its companion key, sometimes followed by the counter of notifications."""
    frame = {"new_message": item}
    if evening.dice.chance(0.8):
        frame["hasSystemNotifications"] = False
    account.notifications += 1
    evening.emit(account, frame)
    if evening.dice.chance(0.5):
        evening.emit(account, {"messages": account.notifications, "hasSystemNotifications": False}, 300)


def paid_message(evening: "Evening", account: Account, fan: Fan, buys: bool = False) -> Scene:
    """The account sends a message with a price; the fan may unlock it, minutes later."""
    if not account.shows_outbound:
        return
    dice = evening.dice
    cents = dice.pick(WHALE_PPV_CENTS if fan.spender == "whale" else PPV_CENTS)
    attached = attach(evening, account, can_view=True, most=3)
    item = account_writes(evening, account, fan, texts.paid(dice), cents=cents, attached=attached)
    if buys or dice.chance(BUYS[fan.spender]):
        yield evening.pause(8_000, 240_000)
        unlock(evening, account, fan, item, cents)


def unlock(evening: "Evening", account: Account, fan: Fan, item: frames.Json, cents: int) -> None:
    dice = evening.dice
    pairs = {"{MESSAGE_LINK}": f"/my/chats/chat/{fan.id}?firstId={item['id']}", "{AMOUNT}": frames.dollar_text(cents)}
    _notify(
        evening,
        account,
        frames.notification(
            evening.notification_id(),
            "paided_message",
            "subscriber_pay_for_chat_message",
            "paid {AMOUNT} for your <a href=\"{MESSAGE_LINK}\">message</a>",
            account.id,
            fan.user(),
            pairs=pairs,
        ),
    )
    if dice.chance(0.4):
        # The message comes again, now opened.
        opened = dict(item, isOpened=True, isNew=False, openedAt=evening.stamp(), changedAt=evening.stamp(), canPurchaseReason="opened")
        evening.emit(account, {"api2_chat_message": opened}, dice.between(200, 2_000))


def story_tip(evening: "Evening", account: Account, fan: Fan) -> Scene:
    dice = evening.dice
    tip_id = int(evening.message_id() % 1_000_000_000)
    cents = dice.pick([300, 500, 1000, 1050])
    note = dice.pick([None, "nice", "love this one 💛"])
    evening.emit(account, {"story_tips": frames.story_tip(tip_id, fan.user(), account.id, 456 + dice.below(50), cents, note)})
    yield 1


def post_purchase(evening: "Evening", account: Account, fan: Fan) -> Scene:
    if fan.spender == "none":
        return
    cents = evening.dice.pick(PPV_CENTS)
    post = 492_000_001 + evening.dice.below(400)
    _notify(
        evening,
        account,
        frames.notification(
            evening.notification_id(),
            "paided_post",
            "your_post_purchased",
            "purchased your <a href=\"{POST_URL}\">post</a> for {PRICE}",
            account.id,
            fan.user(),
            pairs={"{PRICE}": frames.dollar_text(cents), "{POST_URL}": f"/{post}/u{account.id}"},
        ),
    )
    yield 1


# Subscriptions.


def subscribe(evening: "Evening", account: Account, fan: Fan, sub_kind: str = "") -> Scene:
    """One subscription in up to three shapes within a second, then the automatic welcome, then perhaps a chat."""
    dice = evening.dice
    sub_kind = sub_kind or str(dice.weighted([(70, "new_subscriber"), (30, "returning_subscriber")]))
    returning = sub_kind == "returning_subscriber"
    fan.subscribed, fan.renews, fan.months = True, dice.chance(0.8), (fan.months + 1 if returning else 1)
    shapes = dice.weighted([(60, (0, 1, 2)), (15, (0, 1)), (15, (1,)), (10, (1, 2))])
    for shape in dice.sample(shapes, 3):
        if shape == 0:
            stamp = evening.unix() + dice.between(-1, 1)
            evening.emit(account, {"subscribed": {"user": fan.user(), "timestamp": stamp}})
        elif shape == 1:
            text = "subscribed to your profile again!" if returning else "subscribed to your profile!"
            pairs = {"{PRICE}": dice.pick(["$9.99", "$4.50", "$15.00", "$0.00"])}
            item = frames.notification(
                evening.notification_id(), "subscribed", sub_kind, text, account.id, fan.user(), pairs=pairs
            )
            _notify(evening, account, item)
        else:
            # An array in code, an object in one vendor's documentation.
            item = frames.toast(evening.unix() % 1_000_000, "subscribed", sub_kind, "subscribed to your profile!", fan.id, fan.name)
            evening.emit(account, {"toasts": item if dice.chance(0.15) else [item]})
        yield dice.between(50, 450)
    if account.shows_outbound and dice.chance(0.7):
        yield evening.pause(1_000, 4_000)
        welcome = texts.markup("Welcome! Tell me a little about yourself 😊", dice)
        account_writes(evening, account, fan, welcome, queue=account.new_queue())
    if dice.chance(0.5):
        yield evening.pause(10_000, 60_000)
        yield from chat(evening, account, fan, turns=dice.between(1, 3))


def renew(evening: "Evening", account: Account, fan: Fan) -> Scene:
    """A term goes on. The notification's spelling was never captured; the fan's next profile says one month more."""
    fan.subscribed, fan.renews, fan.months = True, True, fan.months + 1
    item = frames.notification(
        evening.notification_id(),
        "subscribed",
        "subscription_renewed",
        "renewed the subscription for {PRICE}",
        account.id,
        fan.user(),
        pairs={"{PRICE}": "$9.99"},
    )
    _notify(evening, account, item)
    if evening.dice.chance(0.4):
        yield evening.pause(5_000, 40_000)
        yield from chat(evening, account, fan, turns=1)


def expire(evening: "Evening", account: Account, fan: Fan) -> Scene:
    """A subscription ends; the fan may still write, and then no longer as a subscriber."""
    fan.subscribed, fan.renews = False, False
    item = frames.notification(
        evening.notification_id(), "subscribed", "subscribe_was_expired", "subscription expired", account.id, fan.user()
    )
    _notify(evening, account, item)
    if evening.dice.chance(0.3):
        yield evening.pause(5_000, 60_000)
        yield from chat(evening, account, fan, turns=1)


def other_notification(evening: "Evening", account: Account, fan: Fan) -> Scene:
    """Prices, promotions: shown, but neither message nor money."""
    kind, sub_kind, text, new_price = evening.dice.pick(
        [
            ("price_changed", "price_changed_not_from_free", "changed the subscription price", 7.5),
            ("price_changed", "new_discount_for_subscriber", "offers a discount", 5),
            ("message", "new_stream", "is live now", None),
            ("message", "promoreg_for_expired", "has a promotion for you", None),
        ]
    )
    item = frames.notification(
        evening.notification_id(), kind, sub_kind, text, account.id, fan.user(), new_price=new_price
    )
    _notify(evening, account, item)
    if kind == "message" and evening.dice.chance(0.5):
        yield 200
        toasts = [frames.toast(evening.unix() % 1_000_000, "message", sub_kind, text, fan.id, fan.name)]
        evening.emit(account, {"toasts": toasts})
