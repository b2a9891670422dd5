"""The shapes of the source's frames: one function a shape, returning what stands in the frame. No chance, no clock."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

Json = Dict[str, Any]


def bare(user: int) -> Json:
    """How four of five senders come."""
    return {"id": user}


def user(user_id: int, name: str) -> Json:
    """The short profile of notifications and subscriptions."""
    return {"id": user_id, "name": name, "username": f"u{user_id}", "avatar": None}


def profile(
    user_id: int,
    name: str,
    *,
    months: int = 0,
    subscribed: bool = True,
    renews: bool = True,
    lists: tuple = (),
    display_name: str = "",
    notice: str = "",
    followed: bool = False,
    last_seen: Optional[str] = None,
) -> Json:
    """The full profile of a chat message's sender, seen from the account: `subscribedOn` is the fan's own subscription."""
    states: List[Json] = [
        {"id": "rebill_on", "type": "rebill_on", "hasUser": subscribed and renews},
        {"id": "rebill_off", "type": "rebill_off", "hasUser": subscribed and not renews},
    ]
    states += [{"id": entry, "type": "custom", "hasUser": True} for entry in lists]
    return {
        "id": user_id,
        "name": name,
        "username": f"u{user_id}",
        "avatar": None,
        "avatarThumbs": {"c50": None, "c144": None},
        "isVerified": False,
        "canEarn": False,
        "subscribedBy": followed,
        "subscribedByExpireDate": None,
        "subscribedByAutoprolong": False,
        "subscribedOn": subscribed,
        "subscribedOnExpiredNow": not subscribed,
        "subscribedOnDuration": f"{months} months" if months != 1 else "1 month",
        "listsStates": states,
        "isRestricted": False,
        "displayName": display_name,
        "notice": notice,
        "lastSeen": last_seen,
    }


def media(media_id: int, kind: str, can_view: bool, secret: str, expires: int) -> Json:
    """One medium. Its URLs look signed, as the source's are, and lead nowhere."""
    is_video = kind == "video"
    suffix = {"photo": "jpg", "video": "mp4", "gif": "gif", "audio": "mp3"}.get(kind, "bin")
    signed = f"?Expires={expires}&Signature={secret}&Key-Pair-Id=EXAMPLE"
    base = f"https://cdn.example/files/{media_id}"
    width, height = (1920, 1080) if is_video else (1080, 1440)
    return {
        "id": media_id,
        "type": kind,
        "canView": can_view,
        "hasError": False,
        "isReady": True,
        "createdAt": None,
        "convertedToVideo": False,
        "duration": 37 if is_video else 12 if kind == "audio" else 0,
        "hasCustomPreview": False,
        "files": {
            "full": {"url": f"{base}/full.{suffix}{signed}", "width": width, "height": height, "size": 0, "sources": []},
            "thumb": {"url": f"{base}/thumb.jpg{signed}"},
            "preview": {"options": []},
            "squarePreview": {},
        },
        "videoSources": {"240": f"{base}/240.mp4{signed}" if is_video else None, "720": None},
    }


def message(
    message_id: int,
    text: Optional[str],
    sender: Json,
    created_at: str,
    *,
    to: Optional[Json] = None,
    price: Any = 0,
    attached: tuple = (),
    tip_amount: Any = None,
    is_tip: bool = False,
    tip_text: str = "",
    queue: int = 0,
    reply_to: Optional[Json] = None,
    opened_at: Optional[str] = None,
    changed_at: Optional[str] = None,
) -> Json:
    """A chat message with every key that was seen. With `to` it is the account's own."""
    free = not price
    item = {
        "id": message_id,
        "responseType": "message",
        "text": text,
        "giphyId": None,
        "lockedText": not free and to is None,
        "isFree": free,
        "price": price,
        "isMediaReady": True,
        "mediaCount": len(attached),
        "media": list(attached),
        "previews": [],
        "isTip": is_tip,
        "tipAmount": tip_amount,
        "isReportedByMe": False,
        "isCouplePeopleMedia": False,
        "queueId": queue,
        "isMarkdownDisabled": False,
        "releaseForms": [],
        "fromUser": sender,
        "isFromQueue": queue != 0,
        "canUnsendQueue": queue != 0,
        "unsendSecondsQueue": 60 if queue else 0,
        "isOpened": opened_at is not None,
        "isNew": opened_at is None,
        "createdAt": created_at,
        "changedAt": changed_at or created_at,
        "cancelSeconds": 86_400 if to is not None else 0,
        "isLiked": False,
        "canPurchase": False,
        "canPurchaseReason": "free" if free else "opened" if opened_at else "price",
        "canReport": to is None,
        "canBePinned": True,
        "isPinned": False,
    }
    if to is not None:
        item["toUser"] = to
    if is_tip:
        item["tipText"] = tip_text
    if reply_to is not None:
        item["replyToMessage"] = reply_to
    if opened_at is not None:
        item["openedAt"] = opened_at
    return item


def short_message(message_id: int, text: str, sender: Json) -> Json:
    """The least that a chat message was seen with. It says no time."""
    return {"id": message_id, "text": text, "price": 0, "fromUser": sender, "media": []}


def notification(
    notification_id: str,
    kind: str,
    sub_kind: str,
    text: str,
    account: int,
    actor: Json,
    *,
    gross: Any = None,
    net: Any = None,
    new_price: Any = None,
    pairs: Optional[Json] = None,
) -> Json:
    """A notification. `user_id` is whom it tells, the account; `user` is who did it."""
    item = {
        "id": notification_id,
        "type": kind,
        "subType": sub_kind,
        "text": text,
        "user_id": str(account),
        "isRead": False,
        "canGoToProfile": True,
        "newPrice": new_price,
        "amountGross": gross,
        "amountNet": net,
        "user": actor,
    }
    if pairs is not None:
        item["replacePairs"] = pairs
    return item


def toast(toast_id: int, kind: str, code: str, text: str, actor_id: int, name: str) -> Json:
    return {
        "id": toast_id,
        "title": "Subscriptions" if kind == "subscribed" else "Promotions",
        "text": text,
        "type": kind,
        "data": {
            "code": code,
            "template": text,
            "replacements": {"{RELATED_USER_ID}": str(actor_id)},
            "relatedUser": {"view": "to", "id": actor_id, "name": name, "username": f"u{actor_id}", "isVerified": False},
        },
    }


def queue_update(queue: int, date: str, total: int, pending: int, *, done: bool = False, canceled: bool = False) -> Json:
    return {
        "id": queue,
        "date": date,
        "isReady": True,
        "isDone": done,
        "total": total,
        "pending": pending,
        "canUnsend": not canceled,
        "unsendSeconds": 60,
        "hasError": False,
        "isCanceled": canceled,
    }


def dollars(cents: int) -> Any:
    """Money as the source writes it: a whole number where it is one, else a decimal."""
    return cents // 100 if cents % 100 == 0 else cents / 100


def dollar_text(cents: int) -> str:
    return f"${cents // 100}.{cents % 100:02}"


def story_tip(tip_id: int, fan: Json, account: int, story: int, cents: int, text: Optional[str]) -> Json:
    return {
        "id": tip_id,
        "from_user": fan,
        "story_user_id": account,
        "story_id": story,
        "amount": dollars(cents),
        "amount_human": dollar_text(cents),
        "message": text,
    }


def stream_tip(tip_id: int, fan: Json, account: int, stream: int, cents: int, text: Optional[str]) -> Json:
    return {
        "id": tip_id,
        "from_user": fan,
        "stream_user_id": account,
        "stream_id": stream,
        "amount": dollars(cents),
        "amount_human": dollar_text(cents),
        "message": text,
    }


def fundraising(post: int, target_cents: int, progress_cents: int) -> Json:
    return {
        "id": post,
        "fundRaising": {"target": dollars(target_cents), "targetProgress": dollars(progress_cents), "presets": ["10", "20"]},
    }
