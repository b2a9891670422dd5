"""What an account does by itself: heartbeats, posts, bulk messages, streams, reconnects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator

from . import frames, noise, scenes, texts
from .people import Account, Fan

if TYPE_CHECKING:
    from .evening import Evening

Scene = Iterator[int]


def heartbeat(evening: "Evening", account: Account) -> Scene:
    """The answer to `get_onlines`, every 20 seconds."""
    while True:
        active = [fan.id for fan in account.fans if fan.busy]
        idle = [fan.id for fan in evening.dice.sample(account.fans, 12) if not fan.busy]
        evening.emit(account, {"online": active[:60] + idle})
        yield 20_000


def counters(evening: "Evening", account: Account) -> Scene:
    """Someone looks at the notifications and chats; the counters fall."""
    dice = evening.dice
    while True:
        if dice.chance(0.5):
            account.notifications = 0
            evening.emit(account, {"messages": 0, "hasSystemNotifications": dice.chance(0.1)})
        else:
            for fan_id in sorted(account.unread)[: len(account.unread) // 2]:
                account.unread.discard(fan_id)
            account.unread_tips = 0
            evening.emit(account, scenes.chat_counters(evening, account))
        if dice.chance(0.2):
            evening.emit(account, {"has_new_hints": dice.chance(0.5)}, 100)
        yield dice.between(15_000, 60_000)


def life_of_account(evening: "Evening", account: Account) -> Scene:
    """Posts, a fundraiser, stories."""
    dice = evening.dice
    post = 492_000_001 + (account.id % 1000) * 10_000
    while True:
        post += dice.between(1, 9)
        evening.emit(account, {"post_published": {"id": str(post), "user_id": str(account.id), "show_posts_in_feed": True}})
        yield dice.between(10_000, 60_000)
        if dice.chance(0.6):
            evening.emit(account, {"post_updated": str(post)})
            yield dice.between(5_000, 30_000)
        if dice.chance(0.5):
            for step in range(1, dice.between(2, 4)):
                evening.emit(account, {"post_fundraising_updated": frames.fundraising(post, 12_399, 3_999 * step // 2)})
                yield dice.between(3_000, 20_000)
        if dice.chance(0.6):
            story = {"id": post % 100_000, "userId": account.id, "canLike": False, "media": []}
            evening.emit(account, {"stories": [story] if dice.chance(0.7) else [story, dict(story, id=story["id"] + 1)]})
            yield dice.between(10_000, 60_000)
        if dice.chance(0.5):
            evening.emit(account, {"post_expire": str(post)})
        yield dice.between(60_000, 300_000)


def mass_message(evening: "Evening", account: Account) -> Scene:
    """One message to many, with the queue's progress; some buy it, some answer within minutes."""
    dice = evening.dice
    length = evening.plan.minutes * 60_000
    while True:
        share = dice.between(15, 45)
        audience = dice.sample(account.fans, max(3, len(account.fans) * share // 100))
        queue, date = account.new_queue(), evening.time().strftime("%Y-%m-%d")
        cents = dice.pick(scenes.PPV_CENTS) if dice.chance(0.6) else 0
        text = texts.paid(dice) if cents else texts.bulk(dice)
        attached = scenes.attach(evening, account, most=2) if cents else ()
        evening.emit(account, {"chat_queue_update": frames.queue_update(queue, date, -1, len(audience))})
        canceled = dice.chance(0.1)
        for number, fan in enumerate(audience):
            yield dice.between(40, 350)
            if number % 12 == 11:
                update = frames.queue_update(queue, date, len(audience), len(audience) - number)
                evening.emit(account, {"chat_queue_update": update})
            if not account.shows_outbound:
                continue
            item = scenes.account_writes(evening, account, fan, text, cents=cents, queue=queue, attached=attached)
            if cents and dice.chance(scenes.BUYS[fan.spender] / 2):
                evening.start(_unlock_later(evening, account, fan, item, cents), dice.between(20_000, 300_000))
            if not fan.busy and dice.chance(0.12):
                evening.start(scenes.alone(fan, scenes.chat(evening, account, fan, turns=1)), dice.between(8_000, 180_000))
            if canceled and number > len(audience) // 2:
                break
        last = frames.queue_update(queue, date, len(audience), 0, done=not canceled, canceled=canceled)
        evening.emit(account, {"chat_queue_update": last}, 500)
        yield dice.between(length // 4, length // 2)


def _unlock_later(evening: "Evening", account: Account, fan: Fan, item: frames.Json, cents: int) -> Scene:
    scenes.unlock(evening, account, fan, item, cents)
    yield 1


def stream(evening: "Evening", account: Account) -> Scene:
    """A live stream: viewers come and go, hearts rain, comments, tips with their companion keys."""
    dice = evening.dice
    stream_id = 1234 + account.id % 1000
    owner = str(account.id)
    viewers = dice.sample(account.fans, max(3, len(account.fans) // 4))
    busiest = min(len(viewers) * 8, evening.plan.frames // 25)
    evening.emit(account, {"stream_start": {"stream_id": str(stream_id), "userId": account.id}})
    tips, total = 0, 0
    for number in range(busiest):
        yield dice.skewed(40, 1_200)
        fan = dice.pick_early(viewers)
        act = dice.weighted([(64, "like"), (9, "look"), (7, "unlook"), (12, "comment"), (4, "tip"), (3, "update"), (1, "old")])
        act = "tip" if number == busiest // 2 else act
        if act == "like":
            place = {"x": dice.below(100), "y": dice.below(100)} if dice.chance(0.5) else {"x": 0, "y": 0}
            evening.emit(account, {"stream_likes": dict({"stream_user_id": owner}, **place)})
        elif act == "tip":
            cents = dice.pick([300, 500, 550, 1000, 2000])
            tips, total = tips + 1, total + cents
            item = frames.stream_tip(
                evening.message_id() % 1_000_000_000, fan.user(), account.id, stream_id, cents, dice.pick([None, "encore!", "🎶🎶"])
            )
            evening.emit(account, {"stream_tips": item, "is_show_tips": True, "tips_count": tips, "tips_summ": frames.dollars(total)})
        else:
            noise.stream_frame(evening, account, fan, stream_id, str(act))
    evening.emit(account, {"stream_stop": {"stream_id": str(stream_id), "stream_user_id": owner}})


def reconnects(evening: "Evening", account: Account) -> Scene:
    """A new connection is opened before the old one is closed: what came in the last seconds comes again."""
    dice = evening.dice
    length = evening.plan.minutes * 60_000
    while True:
        evening.repeat_recent(account, dice.between(8_000, 25_000))
        yield dice.between(length // 6, length // 3)
