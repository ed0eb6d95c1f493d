// Live updates: the server sends parts of this page again when they have changed. Everything works
// without this script; then the page is as it was when it was loaded.
(() => {
  "use strict";
  const root = document.documentElement;
  if (!document.body.hasAttribute("data-live") || !window.EventSource) return;
  let source = null, again = 0;

  const say = state => { root.dataset.state = state; };

  // What somebody is typing into, has opened or has chosen stays as it is.
  const busy = part => {
    const at = document.activeElement;
    return part.contains(at) && at.matches("input, select, textarea");
  };

  const put = (part, html) => {
    const at = part.contains(document.activeElement) ? document.activeElement : null;
    const find = at && (at.id ? "#" + CSS.escape(at.id) : at.getAttribute("href") ? `a[href="${CSS.escape(at.getAttribute("href"))}"]` : null);
    const open = [...part.querySelectorAll("details[id]")].filter(d => d.open).map(d => d.id);
    const scrolled = [...part.querySelectorAll("[data-scrolls]")].map(e => [e.dataset.scrolls, e.scrollLeft]);
    part.innerHTML = html;
    for (const id of open) { const d = document.getElementById(id); if (d) d.open = true; }
    for (const [name, left] of scrolled) { const e = part.querySelector(`[data-scrolls="${name}"]`); if (e) e.scrollLeft = left; }
    if (find) part.querySelector(find)?.focus({ preventScroll: true });
  };

  const listen = () => {
    source = new EventSource(location.href);
    source.onopen = () => say("on");
    // A browser tries again by itself where the connection broke, but not where it was refused, as by
    // a proxy while the server restarts, or since too many pages are live.
    source.onerror = () => {
      say("lost");
      if (source?.readyState === EventSource.CLOSED) again = setTimeout(listen, 5000);
    };
    source.addEventListener("away", () => say("lost"));
    source.addEventListener("over", () => { source.close(); location.reload(); });
    source.addEventListener("parts", event => {
      say("on");
      const parts = JSON.parse(event.data);
      for (const id of Object.keys(parts)) {
        const part = document.getElementById(id);
        if (part && !busy(part)) put(part, parts[id]);
      }
    });
  };

  // Who doesn't look needs no updates.
  document.addEventListener("visibilitychange", () => {
    clearTimeout(again);
    if (document.hidden) { source?.close(); source = null; say("paused"); } else if (!source) listen();
  });
  if (!document.hidden) listen();
})();
