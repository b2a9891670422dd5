// Keeps the page live. Everything is there without this file; with it, changes come as server-sent events and the list of the inbox holds only what
// is on the screen. Whatever strangers wrote is set as text (textContent), never as HTML; the page's policy forbids the other way as well.
"use strict";

(() => {
  const ONLINE_MS = 120000;
  const GAP_NEWS_MS = 3600000;
  const HOLD_MS = 1500;
  const NONE = {
    all: "No conversation yet: they appear as soon as the snapshot service writes them.",
    awaiting: "Nobody waits for an answer.",
    unread: "Everything is read.",
    other: "No conversation in this tab.",
  };
  const PAGE = 1000;
  const FEED_MAX = 200;
  const LEVELS = ["low", "due", "high", "urgent"];
  const $ = (id) => document.getElementById(id);
  const view = document.body.dataset.view;
  if (view === "login") return signIn();
  if (view === "notice") return;
  document.documentElement.classList.add("scripted");

  const state = {
    rows: new Map(), // "account\nid" -> row
    shown: [], // rows of the chosen tab, in order
    tab: document.body.dataset.tab || "all",
    account: $("account").value,
    open: openOf(location.pathname), // { account, id }
    focus: -1,
    feed: [],
    level: $("level") ? $("level").value : "",
    paused: false,
    strips: new Map(),
    loading: null, // changes that came while everything is loaded
    loaded: false, // everything was loaded once
    held: -HOLD_MS, // when the pointer last moved over the list
    source: null,
  };
  const tabs = {
    all: () => true,
    priority: (row) => LEVELS.indexOf(row.level) > 0,
    unread: (row) => row.unread > 0,
    awaiting: (row) => Boolean(row.waiting_since),
    tips: (row) => row.tips > 0,
    "high-value": (row) => row.high_value,
  };

  // ---- Elements -------------------------------------------------------------------------------------------------------------------------

  function node(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== undefined && value !== null) element.setAttribute(name, value);
    }
    for (const child of children) if (child !== null && child !== undefined && child !== false) element.append(child);
    return element;
  }
  const span = (name, text, title) => node("span", { class: name, title }, text);
  // A sign or a colour, and what a screen reader says instead.
  const sign = (name, text, title) => node("span", { class: name, title, "aria-hidden": "true" }, text);
  const said = (text) => node("span", { class: "sr" }, " " + text + " ");
  // What a stranger wrote: text, in a box of its own direction.
  const foreign = (name, text) => node("bdi", { class: name }, text === undefined ? "" : String(text));

  const money = (minor) => {
    const cents = Math.abs(minor);
    return (minor < 0 ? "-$" : "$") + Math.floor(cents / 100).toLocaleString("en-US") + "." + String(cents % 100).padStart(2, "0");
  };
  const brief = (minor) => (Math.abs(minor) >= 100000 ? money(minor).split(".")[0] : money(minor));
  const amount = (minor) => (minor === 0 ? "free" : money(minor));
  const count = (value) => value.toLocaleString("en-US");
  const two = (value) => String(value).padStart(2, "0");
  function ago(ms) {
    const s = Math.floor(ms / 1000);
    if (s < 1) return "now";
    if (s < 60) return s + "s";
    if (s < 3600) return Math.floor(s / 60) + "m";
    if (s < 86400) return Math.floor(s / 3600) + "h";
    return Math.floor(s / 86400) + "d";
  }
  function waiting(ms) {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s < 3600) return Math.floor(s / 60) + ":" + two(s % 60);
    if (s < 86400) return Math.floor(s / 3600) + "h " + two(Math.floor(s / 60) % 60) + "m";
    return Math.floor(s / 86400) + "d " + (Math.floor(s / 3600) % 24) + "h";
  }
  const waitClass = (ms) => (ms < 120000 ? "wait-green" : ms <= 300000 ? "wait-amber" : ms <= 1200000 ? "wait-orange" : "wait-red");
  const lag = (ms) => (ms < 1000 ? ms + " ms" : (ms / 1000).toFixed(1) + " s");
  const utc = (at) => at.slice(0, 19).replace("T", " ") + " UTC";
  function bytes(value) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (value >= 1024 && unit < 4) (value /= 1024), (unit += 1);
    return unit === 0 ? value + " B" : value.toFixed(1) + " " + units[unit];
  }
  const when = (at) => node("time", { datetime: at, title: utc(at), class: "ago" }, ago(Date.now() - Date.parse(at)));
  const wait = (since) => {
    const ms = Date.now() - Date.parse(since);
    return node("span", { class: "wait " + waitClass(ms), "data-since": since, title: "waiting" }, waiting(ms));
  };
  const pathOf = (account, id) => "/accounts/" + segment(account) + "/conversations/" + segment(id);
  const segment = (text) => encodeURIComponent(text).replace(/[.!'()*]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());
  function openOf(path) {
    const found = /^\/accounts\/([^/]+)\/conversations\/([^/]+)$/.exec(path);
    return found ? { account: decodeURIComponent(found[1]), id: decodeURIComponent(found[2]) } : null;
  }

  // ---- The inbox ------------------------------------------------------------------------------------------------------------------------

  function rowNode(row, index) {
    const now = Date.now();
    const who = node("span", { class: "who" }, foreign("name", row.name));
    if (row.tier && row.tier !== "none") who.append(span("tier", row.tier));
    if (row.high_value) who.append(span("badge high-value", "★", "high-value"));
    if (LEVELS.indexOf(row.level) > 0) who.append(span("badge level-" + row.level, row.level));
    if (row.typing_until && Date.parse(row.typing_until) > now) who.append(span("typing", "typing…"));
    else if (row.online_at && now - Date.parse(row.online_at) < ONLINE_MS) who.append(span("online", "online"));
    const what = node("span", { class: "what" });
    if (row.direction === "in") what.append(sign("way", "←", "from the fan"), said("from the fan:"));
    if (row.direction === "out") what.append(sign("way", "→", "from the account"), said("from the account:"));
    if (row.preview !== undefined) what.append(row.preview.trim() ? foreign("preview", row.preview) : span("preview", "(no text)"));
    const side = node("span", { class: "side" }, when(row.at || row.activity));
    if (row.unread > 0) side.append(span("badge unread", row.unread + (row.unread_more ? "+" : ""), "unread"), said("unread"));
    if (row.waiting_since) side.append(said("waiting"), wait(row.waiting_since));
    const marks = node("span", { class: "marks" });
    if (row.ppv) {
      const price = row.ppv.price === undefined ? "" : " " + brief(row.ppv.price);
      marks.append(span("ppv ppv-" + row.ppv.state, "PPV" + price + " " + row.ppv.state));
    }
    if (row.spent > 0) marks.append(span("spent", brief(row.spent), "spent, as observed"));
    if (row.unreadable) marks.append(span("badge unreadable", "unreadable", "what stands in Redis cannot be read; this is what was known before"));
    if (row.stale) marks.append(span("badge stale", "stale", "frames may have been missed since"));
    const isOpen = state.open && state.open.account === row.account && state.open.id === row.id;
    const link = node("a", { class: "row", href: pathOf(row.account, row.id), "aria-current": isOpen ? "true" : "false" }, node("span", { class: "line" }, who, side), node("span", { class: "line" }, what, marks));
    const item = node("li", { "aria-posinset": index + 1, "aria-setsize": state.shown.length }, link);
    item.style.transform = "translateY(" + index * rowHeight() + "px)";
    item.dataset.index = index;
    return item;
  }

  let height = 0;
  const rowHeight = () => height || (height = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row")) || 54);

  const drawn = new Map(); // index -> { row, isOpen, item }
  // Only the rows on the screen, a few above and below, and the one that has the focus, are elements.
  function drawRows() {
    const list = $("list");
    if (!list) return;
    const rows = $("rows");
    // What the server wrote stays until there is something to put in its place.
    if (!document.documentElement.classList.contains("listed")) {
      if (state.rows.size === 0 && !state.loaded) return;
      document.documentElement.classList.add("listed");
      rows.replaceChildren();
    }
    $("none").hidden = state.shown.length > 0;
    $("none").textContent = NONE[state.tab] || NONE.other;
    rows.style.height = state.shown.length * rowHeight() + "px";
    const first = Math.max(0, Math.floor(list.scrollTop / rowHeight()) - 6);
    const last = Math.min(state.shown.length, Math.ceil((list.scrollTop + list.clientHeight) / rowHeight()) + 6);
    const hasFocus = rows.contains(document.activeElement);
    const wanted = [];
    for (let index = first; index < last; index += 1) wanted.push(index);
    if (hasFocus && state.focus >= 0 && state.focus < first) wanted.unshift(state.focus);
    if (hasFocus && state.focus >= last) wanted.push(state.focus);
    const kept = new Set(wanted);
    for (const [index, old] of drawn) {
      if (!kept.has(index)) old.item.remove(), drawn.delete(index);
    }
    // From the last to the first, so that each stands before the next: in the order in which they are read and tabbed through.
    let next = null;
    for (const index of wanted.reverse()) {
      const row = state.shown[index];
      const isOpen = Boolean(state.open && state.open.account === row.account && state.open.id === row.id);
      let old = drawn.get(index);
      if (!old || old.row !== row || old.isOpen !== isOpen) {
        const item = rowNode(row, index);
        if (old) old.item.replaceWith(item);
        old = { row, isOpen, item };
        drawn.set(index, old);
      } else old.item.setAttribute("aria-setsize", state.shown.length);
      if (old.item.parentNode !== rows || old.item.nextSibling !== next) rows.insertBefore(old.item, next);
      next = old.item;
    }
    if (hasFocus && state.focus >= 0) focusRow(state.focus, false);
  }

  function choose() {
    const has = tabs[state.tab] || tabs.all;
    const shown = [];
    for (const row of state.rows.values()) if ((!state.account || row.account === state.account) && has(row)) shown.push(row);
    const byActivity = (a, b) => (a.activity < b.activity ? 1 : a.activity > b.activity ? -1 : a.id < b.id ? -1 : 1);
    if (state.tab === "awaiting") shown.sort((a, b) => (a.waiting_since < b.waiting_since ? -1 : 1));
    else if (state.tab === "priority") shown.sort((a, b) => LEVELS.indexOf(b.level) - LEVELS.indexOf(a.level) || byActivity(a, b));
    else shown.sort(byActivity);
    const focused = state.shown[state.focus];
    state.shown = shown;
    if (focused) state.focus = shown.findIndex((row) => row.account === focused.account && row.id === focused.id);
    if ($("count") && state.loaded) $("count").textContent = count(shown.length) + " conversations";
    for (const tab of document.querySelectorAll("#tabs a")) {
      tab.setAttribute("aria-current", tab.dataset.tab === state.tab ? "page" : "false");
      const account = state.account ? "&account=" + encodeURIComponent(state.account) : "";
      tab.setAttribute("href", "/?tab=" + tab.dataset.tab + account);
    }
  }

  // While the pointer moves over the list its order holds still, so that nobody opens another conversation than the one they aim at.
  function redraw() {
    clearTimeout(state.holding);
    const still = HOLD_MS - (performance.now() - state.held);
    if (still > 0 && state.loaded) {
      state.shown = state.shown.map((row) => state.rows.get(keyOf(row.account, row.id))).filter(Boolean);
      state.holding = setTimeout(redraw, still);
    } else choose();
    drawRows();
  }
  function unhold() {
    state.held = -HOLD_MS;
  }

  function focusRow(index, scroll) {
    if (index < 0 || index >= state.shown.length) return;
    state.focus = index;
    const list = $("list");
    const top = index * rowHeight();
    if (scroll) {
      if (top < list.scrollTop) list.scrollTop = top;
      else if (top + rowHeight() > list.scrollTop + list.clientHeight) list.scrollTop = top + rowHeight() - list.clientHeight;
      drawRows();
    }
    const there = drawn.get(index);
    if (there && document.activeElement !== there.item.firstChild) there.item.firstChild.focus({ preventScroll: true });
  }

  // ---- The conversation -----------------------------------------------------------------------------------------------------------------

  let asked = 0;
  async function showPanel(open) {
    state.open = open;
    document.body.dataset.view = open ? "conversation" : "inbox";
    drawRows();
    const panel = $("panel");
    if (!panel) return;
    if (!open) {
      panel.replaceChildren(node("p", { class: "hint" }, "Choose a conversation. With the keyboard: j and k go down and up, Enter opens, Escape closes."));
      return;
    }
    const mine = (asked += 1);
    const base = "/api/v1" + pathOf(open.account, open.id);
    try {
      const [whole, told] = await Promise.all([get(base), get(base + "/events?limit=50")]);
      if (mine !== asked) return;
      const focused = panel.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      // What was opened stays open while its conversation goes on.
      const opened = new Map([...panel.querySelectorAll("pre")].map((pre) => [pre.dataset.of, pre]));
      panel.replaceChildren(...panelNodes(open, whole.snapshot, told.events, base));
      for (const link of panel.querySelectorAll("a")) {
        const path = link.getAttribute("href");
        if (opened.has(path)) link.after(opened.get(path));
        if (path === focused) link.focus({ preventScroll: true });
      }
      // On a phone the list is gone, and the focus with it.
      const lost = document.activeElement === document.body || $("inbox").contains(document.activeElement);
      if ($("inbox").offsetParent === null && lost) panel.focus();
    } catch (error) {
      if (mine !== asked) return;
      const gone = error.status === 404;
      panel.replaceChildren(back(), node("p", { class: "hint" }, gone ? "There is no such conversation, or no more." : "It cannot be read now: " + error.message));
    }
  }
  // A criterion as it is stored, `spend_minor >= 50000`, in money: `spend >= $500.00`.
  const criterion = (why) => why.replace(/^(spend|payment)_minor >= (\d+)$/, (_, what, minor) => what + " >= " + money(Number(minor)));
  const back = () => node("a", { class: "back", href: "/?tab=" + state.tab }, "← Inbox");

  function panelNodes(open, snapshot, events, base) {
    const fan = snapshot.fan;
    const facts = node("dl", { class: "facts" });
    const fact = (name, ...what) => facts.append(node("dt", {}, name), node("dd", {}, ...what));
    const ids = node("p", { class: "ids" });
    if (fan.username) ids.append("@", foreign("username", fan.username), " · ");
    ids.append("fan ", foreign("id", fan.id), " · account ", foreign("id", snapshot.account_id), " · written ", when(snapshot.applied_at));
    fact("Tier", span("tier", snapshot.tier));
    fact("High-value", snapshot.high_value.is ? "yes: " + (snapshot.high_value.why || []).map(criterion).join(", ") : "no");
    if (snapshot.awaiting_reply_since) fact("Waiting", wait(snapshot.awaiting_reply_since));
    fact("Unread", snapshot.unread + (snapshot.unread_more ? "+" : ""));
    const last = snapshot.last_message;
    if (last) fact("Last message", last.direction === "in" ? "← " : "→ ", foreign("preview", last.preview), " ", when(last.at));
    const paid = snapshot.subscription;
    if (paid) {
      const until = paid.expires_at ? ", until " + utc(paid.expires_at) : "";
      const renews = paid.auto_renew === undefined ? "" : paid.auto_renew ? ", renews by itself" : ", does not renew";
      fact("Subscription", (paid.state || "unknown") + until + renews);
    }
    if (fan.lists) fact("Lists", ...fan.lists.flatMap((list) => [foreign("list", list), " "]));
    if (snapshot.stale) fact("Stale", "frames may have been missed since the last event");
    const seen = snapshot.spend.observed;
    const said = snapshot.spend.reported || {};
    const body = node("tbody");
    for (const [name, key] of [["Messages", "messages"], ["Tips", "tips"], ["Subscriptions", "subscriptions"], ["Posts", "posts"], ["Streams", "streams"], ["Total", "total"]]) {
      const reported = said[key] === undefined ? "–" : money(said[key]);
      body.append(node("tr", {}, node("th", { scope: "row" }, name), node("td", {}, money(seen[key])), node("td", {}, reported)));
    }
    const head = node("thead", {}, node("tr", {}, ...["Category", "Observed", "Reported"].map((name) => node("th", { scope: "col" }, name))));
    const spend = node("table", { class: "spend" }, node("caption", {}, "Spend"), head, body);
    const payments = node("dl", { class: "facts" }, node("dt", {}, "Payments"), node("dd", {}, count(seen.payments) + ", the largest " + money(seen.largest)));
    const list = node("ol", { id: "events" });
    for (const item of [...events].reverse()) list.append(eventNode(item, base));
    const none = snapshot.high_value.is ? "None yet." : "Kept for high-value fans alone.";
    return [
      back(),
      node("h2", {}, foreign("name", fan.display_name || fan.name || fan.id)),
      ids,
      fan.notice ? node("p", { class: "note" }, foreign("remark", fan.notice)) : null,
      facts,
      spend,
      payments,
      node("h3", {}, "Events"),
      events.length ? list : node("p", { class: "hint" }, none),
    ].filter(Boolean);
  }

  function eventNode(item, base) {
    const event = item.event;
    const way = event.direction === "in" ? "← " : event.direction === "out" ? "→ " : "";
    const line = node("li", {}, when(event.occurred_at || event.received_at), " ", way, span("kind", event.kind), " ");
    if (event.money) line.append(span("spent", money(event.money.minor)), " ");
    if (event.message && event.message.text) line.append(foreign("preview", event.message.text), " ");
    const link = node("a", { class: "raw", href: base + "/events/" + item.stream_id }, "raw");
    link.addEventListener("click", async (click) => {
      click.preventDefault();
      const shown = line.querySelector("pre");
      if (shown) return shown.remove();
      try {
        const whole = await get(base + "/events/" + item.stream_id);
        line.append(node("pre", { tabindex: "0", "data-of": link.getAttribute("href") }, JSON.stringify(whole.event, null, 2)));
      } catch (error) {
        line.append(node("pre", { "data-of": link.getAttribute("href") }, error.message));
      }
    });
    line.append(link);
    return line;
  }

  // ---- The feed and the strip -------------------------------------------------------------------------------------------------------------

  function entryNode(entry) {
    const line = node("li", { class: "entry" }, span("badge level-" + entry.level, entry.level));
    if (entry.conversation) {
      line.append(node("a", { href: pathOf(entry.account, entry.conversation) }, foreign("name", entry.name || entry.conversation)));
    } else line.append(foreign("name", entry.account));
    if (entry.money) line.append(span("spent", amount(entry.money.minor)));
    line.append(when(entry.received_at), foreign("preview", entry.preview));
    line.append(span("reasons", entry.reasons.join(", ").replaceAll("_", " ")), span("lag", lag(entry.lag_ms), "from the frame to Redis"));
    return line;
  }

  function drawFeed() {
    const list = $("entries");
    if (!list || state.paused || !state.loaded) return;
    const shown = state.feed.filter((entry) => (!state.account || entry.account === state.account) && (!state.level || entry.level === state.level));
    list.replaceChildren(...shown.slice(-FEED_MAX).reverse().map(entryNode));
    $("quiet").hidden = shown.length > 0;
  }

  function drawStrips() {
    if (!state.loaded) return;
    const list = $("accounts");
    const strips = [...state.strips.values()].sort((a, b) => (a.account < b.account ? -1 : 1));
    list.replaceChildren(...strips.map(stripNode));
  }

  function stripNode(strip) {
    const connection = strip.connection ? strip.connection.state : "unknown";
    const worst = Math.max(-1, ...strip.lag_ms.slice(-10).map((ms) => (ms === null ? -1 : ms)));
    const writes = strip.writes_per_second.toFixed(1) + " writes/s";
    const item = node(
      "li",
      { class: "strip", "data-account": strip.account, "data-state": connection },
      node("span", { class: "strip-name" }, foreign("id", strip.account)),
      span("state", connection),
      span(
        "rate",
        worst >= 0 ? writes + " · lag " + lag(worst) : strip.writes_per_second > 0 ? writes : "quiet",
        "conversations written a second over the last ten seconds, and the slowest way from a frame to Redis that was seen in them",
      ),
      spark(strip.lag_ms),
      span("counts", count(strip.conversations) + " conversations · " + count(strip.awaiting) + " awaiting"),
    );
    if (strip.unreadable) item.append(span("bad", count(strip.unreadable) + " cannot be read"));
    if (strip.fault) item.append(span("bad", "its state cannot be read", strip.fault));
    if (strip.gap) {
      const isNews = strip.gap.reason !== "start" && Date.now() - Date.parse(strip.gap.to) < GAP_NEWS_MS;
      item.append(node("span", { class: isNews ? "gap" : "gap old" }, "gap ", when(strip.gap.to), strip.gap.reason ? " · " + strip.gap.reason : ""));
    }
    if (strip.auth) item.append(span("auth", "session: " + strip.auth.status.replaceAll("_", " ")));
    return item;
  }

  // The slowest way from frame to Redis in each of the last sixty seconds.
  function spark(values) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    const most = Math.max(1, ...values.map((value) => value || 0));
    svg.setAttribute("viewBox", "0 0 " + values.length + " 16");
    svg.setAttribute("class", "spark");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", "lag of the last minute, at most " + lag(most));
    svg.setAttribute("preserveAspectRatio", "none");
    values.forEach((value, at) => {
      if (value === null) return;
      const bar = document.createElementNS(space, "rect");
      const tall = Math.max(1, (value / most) * 16);
      for (const [name, size] of [["x", at], ["y", 16 - tall], ["width", 0.8], ["height", tall]]) bar.setAttribute(name, size);
      svg.append(bar);
    });
    return svg;
  }

  function showMemory(memory) {
    if (memory) $("memory").textContent = "Redis memory: " + bytes(memory.used_bytes) + ", " + (memory.max_bytes ? "of " + bytes(memory.max_bytes) : "no limit");
  }

  // ---- Staying live -----------------------------------------------------------------------------------------------------------------------

  async function get(path) {
    const answer = await fetch(path, { headers: { Accept: "application/json" } });
    if (answer.status === 401) location.assign("/login");
    const body = await answer.json();
    if (!answer.ok) throw Object.assign(new Error(body.error ? body.error.message : answer.statusText), { status: answer.status });
    return body;
  }

  function live(name, text) {
    $("live").dataset.state = name;
    if ($("live").textContent !== text) $("live").textContent = text;
  }

  function fault(value, readAt) {
    $("fault").hidden = !value;
    $("fault").textContent = value
      ? "Redis cannot be read since " + utc(value.since) + ": " + value.message + ". What is shown was read: " + (readAt ? utc(readAt) : "never") + "."
      : "";
    if (value) live("away", "Redis is away");
    else live("live", "live");
  }

  const keyOf = (account, id) => account + "\n" + id;
  function take(rows) {
    for (const row of rows) {
      const key = keyOf(row.account, row.id);
      const known = state.rows.get(key);
      if (!known || known.rev <= row.rev) state.rows.set(key, row);
    }
  }

  function apply(delta) {
    if (delta.rows) take(delta.rows);
    for (const [account, id] of delta.gone || []) state.rows.delete(keyOf(account, id));
    if (delta.feed) {
      const known = new Set(state.feed.map((entry) => entry.account + entry.id));
      state.feed.push(...delta.feed.filter((entry) => !known.has(entry.account + entry.id)));
      state.feed.splice(0, Math.max(0, state.feed.length - 2 * FEED_MAX));
    }
    for (const strip of delta.accounts || []) state.strips.set(strip.account, strip);
    showMemory(delta.memory);
    fault(delta.fault, delta.read_at);
    if (delta.rows || delta.gone) redraw();
    if (delta.feed) drawFeed();
    if (delta.accounts) drawStrips();
    const open = state.open;
    if (open && (delta.rows || []).some((row) => row.account === open.account && row.id === open.id)) showPanel(open);
  }

  // Everything anew. Changes that come meanwhile are applied after it.
  async function load() {
    if (state.loading) return (state.again = true);
    state.loading = [];
    try {
      const rows = [];
      let total = 1;
      for (let offset = 0; offset < total; offset += PAGE) {
        const page = await get("/api/v1/conversations?limit=" + PAGE + "&offset=" + offset);
        rows.push(...page.conversations);
        total = page.total;
        if (offset === 0 && state.rows.size === 0) take(rows), redraw(); // the first screen does not wait for the rest
      }
      const [accounts, priority] = await Promise.all([get("/api/v1/accounts"), get("/api/v1/priority?limit=" + FEED_MAX)]);
      state.rows = new Map();
      state.loaded = true;
      take(rows);
      state.feed = priority.entries.reverse();
      state.strips = new Map(accounts.accounts.map((strip) => [strip.account, strip]));
      showMemory(accounts.memory);
      fault(null);
    } catch (error) {
      if (error.status === 503) live("away", "Redis is away");
      setTimeout(load, 1000);
    }
    const meanwhile = state.loading;
    state.loading = null;
    meanwhile.forEach(apply);
    redraw();
    drawFeed();
    drawStrips();
    if (state.again) (state.again = false), load();
  }

  function connect() {
    const source = new EventSource("/api/v1/stream");
    state.source = source;
    source.addEventListener("hello", load);
    source.addEventListener("reload", load);
    source.addEventListener("delta", (event) => {
      const delta = JSON.parse(event.data);
      if (state.loading) state.loading.push(delta);
      else apply(delta);
    });
    source.addEventListener("error", () => {
      live("away", "no connection, trying again");
      // A browser gives up where the answer was no stream, such as 503.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
    });
  }

  // ---- What people do -----------------------------------------------------------------------------------------------------------------------

  function go(path, replace) {
    history[replace ? "replaceState" : "pushState"](null, "", path);
  }
  function setTab(tab) {
    state.tab = tab;
    document.body.dataset.tab = tab;
    state.focus = -1;
    if ($("list")) $("list").scrollTop = 0;
    unhold();
    redraw();
  }
  function toInbox() {
    return "/?tab=" + state.tab + (state.account ? "&account=" + encodeURIComponent(state.account) : "");
  }

  document.addEventListener("click", (click) => {
    const link = click.target.closest("a");
    if (!link || click.defaultPrevented || click.metaKey || click.ctrlKey || click.shiftKey || !$("panel")) return;
    const open = openOf(link.pathname);
    if (open) {
      click.preventDefault();
      go(link.pathname);
      const item = link.closest("li");
      if (item && item.dataset.index) state.focus = Number(item.dataset.index);
      showPanel(open);
    } else if (link.dataset.tab) {
      click.preventDefault();
      setTab(link.dataset.tab);
      go(toInbox());
    } else if (link.classList.contains("back")) {
      click.preventDefault();
      close();
    }
  });
  function close() {
    go(toInbox());
    showPanel(null);
    if (state.focus >= 0) focusRow(state.focus, true);
  }
  addEventListener("popstate", () => {
    const tab = new URLSearchParams(location.search).get("tab");
    if (tab && tab !== state.tab) setTab(tab);
    if ($("panel")) showPanel(openOf(location.pathname));
  });
  $("account").addEventListener("change", () => {
    state.account = $("account").value;
    if (view === "inbox" || view === "conversation") go(toInbox(), true);
    state.focus = -1;
    unhold();
    redraw();
    drawFeed();
  });
  if ($("level")) {
    $("level").addEventListener("change", () => ((state.level = $("level").value), drawFeed()));
    $("pause").hidden = false;
    $("pause").addEventListener("click", () => {
      state.paused = !state.paused;
      $("pause").setAttribute("aria-pressed", String(state.paused));
      $("pause").textContent = state.paused ? "Go on" : "Pause";
      drawFeed();
    });
  }
  document.addEventListener("keydown", (press) => {
    if (press.ctrlKey || press.metaKey || press.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(press.target.tagName)) return;
    const inbox = $("list");
    if (press.key === "j" || (press.key === "ArrowDown" && inbox && inbox.contains(press.target))) focusRow(Math.min(state.shown.length - 1, state.focus + 1), true);
    else if (press.key === "k" || (press.key === "ArrowUp" && inbox && inbox.contains(press.target))) focusRow(Math.max(0, state.focus - 1), true);
    else if (press.key === "Escape" && state.open) close();
    else if (press.key >= "1" && press.key <= "6" && inbox) setTab(Object.keys(tabs)[Number(press.key) - 1]), go(toInbox());
    else if (press.key === "p" && $("pause")) $("pause").click();
    else return;
    press.preventDefault();
  });
  if ($("list")) {
    for (const name of ["pointermove", "pointerdown"]) $("list").addEventListener(name, () => (state.held = performance.now()));
    $("list").addEventListener("pointerleave", () => (unhold(), redraw()));
    $("rows").addEventListener("focusin", (focus) => {
      const item = focus.target.closest("li");
      if (item && item.dataset.index) state.focus = Number(item.dataset.index);
    });
    let waitingForFrame = false;
    $("list").addEventListener("scroll", () => {
      if (waitingForFrame) return;
      waitingForFrame = true;
      requestAnimationFrame(() => ((waitingForFrame = false), drawRows()));
    });
    addEventListener("resize", () => {
      height = 0;
      drawn.forEach((old) => old.item.remove());
      drawn.clear();
      drawRows();
    });
  }
  // Ages and waiting times go on by themselves; presence ends by itself.
  setInterval(() => {
    const now = Date.now();
    for (const time of document.querySelectorAll("time.ago")) {
      const text = ago(now - Date.parse(time.dateTime));
      if (time.textContent !== text) time.textContent = text;
    }
    for (const element of document.querySelectorAll(".wait[data-since]")) {
      const ms = now - Date.parse(element.dataset.since);
      element.textContent = waiting(ms);
      element.className = "wait " + waitClass(ms);
    }
    for (const old of drawn.values()) {
      const typing = old.item.querySelector(".typing");
      if (typing && Date.parse(old.row.typing_until) <= now) typing.remove();
    }
  }, 1000);
  live("still", "connecting");
  connect();

  // The token goes in a header, so that it stands in no address; without this script the form sends it as a query.
  function signIn() {
    $("login").addEventListener("submit", async (submit) => {
      submit.preventDefault();
      const answer = await fetch("/login", { headers: { Authorization: "Bearer " + $("token").value }, redirect: "manual" });
      if (answer.type === "opaqueredirect") location.replace("/");
      else $("wrong").textContent = "That is not the token.";
    });
  }
})();
