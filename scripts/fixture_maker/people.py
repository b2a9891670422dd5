"""Who takes part: accounts and fans. A fan's name and habits follow from the id alone, so two recordings agree on them."""

from __future__ import annotations

from typing import List

from . import frames, texts
from .dice import Dice

FIRST_ACCOUNT = 200_000_001
FIRST_FAN = 100_000_001
# The account's own list of its best fans: some stand on it whatever they spend.
VIP_LIST = 880_001


class Fan:
    """A fan, as seen from one account."""

    def __init__(self, fan_id: int):
        dice = Dice(f"fan {fan_id}")
        self.id = fan_id
        self.name = texts.name(dice)
        self.username = f"u{fan_id}"
        # What a fan is ready to spend: most little, one in sixty a lot; the first fan is one of those.
        usual = str(dice.weighted([(18, "generous"), (72, "casual"), (100, "none")]))
        self.spender = "whale" if (fan_id - FIRST_FAN) % 60 == 0 else usual
        self.lists = (VIP_LIST,) if fan_id % 50 == 7 else ()
        self.renews = dice.chance(0.7)
        self.subscribed = dice.chance(0.95)
        self.months = dice.skewed(1, 30)
        self.display_name = f"{texts.name(dice)} (regular)" if dice.chance(0.03) else ""
        self.notice = "likes travel talk, birthday in May" if dice.chance(0.03) else ""
        self.followed = dice.chance(0.02)
        # Some fans never come with more than their id.
        self.never_shown = dice.chance(0.1) and not self.lists
        self.busy = False

    def user(self) -> frames.Json:
        return frames.user(self.id, self.name)

    def profile(self, last_seen: str) -> frames.Json:
        return frames.profile(
            self.id,
            self.name,
            months=self.months,
            subscribed=self.subscribed,
            renews=self.renews,
            lists=self.lists,
            display_name=self.display_name,
            notice=self.notice,
            followed=self.followed,
            last_seen=last_seen,
        )


class Account:
    def __init__(self, number: int, fans: List[Fan], shows_outbound: bool):
        self.id = FIRST_ACCOUNT + number
        self.name = f"Studio {chr(ord('A') + number % 26)}"
        self.fans = fans
        # On some accounts the source never shows what the account itself writes.
        self.shows_outbound = shows_outbound
        self.unseen = list(fans)
        self.unread: set = set()
        self.notifications = 0
        self.unread_tips = 0
        self.queues = 1

    def new_queue(self) -> int:
        """The id of the next bulk message."""
        self.queues += 1
        return (self.id % 1000) * 100_000 + self.queues


def cast(accounts: int, fans: int, dice: Dice) -> List[Account]:
    """Accounts of different size; every fan has one, a few talk to two of them."""
    shares: List[List[Fan]] = [[] for _ in range(accounts)]
    sizes = [(2 * accounts - number, number) for number in range(accounts)]
    for index in range(fans):
        home = index if index < accounts else int(dice.weighted(sizes))
        shares[home].append(Fan(FIRST_FAN + index))
        if accounts > 1 and dice.chance(0.03):
            shares[(home + 1) % accounts].append(Fan(FIRST_FAN + index))
    made = []
    for number, share in enumerate(shares):
        # Who spends also writes most: those stand first.
        order = sorted(dice.sample(share, len(share)), key=lambda fan: {"whale": 0, "generous": 1}.get(fan.spender, 2))
        made.append(Account(number, order, accounts < 5 or number != 4))
    return made
