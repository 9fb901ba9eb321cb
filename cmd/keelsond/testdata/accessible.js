// SPDX-License-Identifier: Apache-2.0
// Rules of accessibility (WCAG 2.2 AA, as far as a program can tell), applied
// to the page as it is shown. Returns a sentence for each breach.
(() => {
  const wrong = [];
  const say = (element, rule) => wrong.push(rule + ": " + element.outerHTML.slice(0, 120));
  const all = (selector) => [...document.querySelectorAll(selector)];
  const shown = (e) => e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });

  // Names, landmarks, headings.
  if (!document.documentElement.lang) wrong.push("the page has no language");
  if (!document.title.trim()) wrong.push("the page has no title");
  if (all("main").length !== 1) wrong.push("there is not one main landmark");
  if (all("h1").length !== 1) wrong.push("there is not one h1");
  let level = 0;
  for (const h of all("h1,h2,h3,h4")) {
    if (+h.tagName[1] > level + 1) say(h, "a level of headings is left out");
    level = +h.tagName[1];
  }
  const ids = new Map();
  for (const e of all("[id]")) ids.set(e.id, (ids.get(e.id) || 0) + 1);
  for (const [id, n] of ids) if (n > 1) wrong.push("the id " + id + " is there " + n + " times");
  const refer = (e, attribute) => (e.getAttribute(attribute) || "").split(/\s+/).filter(Boolean);
  for (const attribute of ["aria-labelledby", "aria-describedby", "for"]) {
    for (const e of all(`[${attribute}]`)) {
      for (const id of refer(e, attribute)) if (!ids.has(id)) say(e, `${attribute} leads nowhere`);
    }
  }
  const name = (e) => (e.getAttribute("aria-label") || refer(e, "aria-labelledby").map((id) => document.getElementById(id)?.textContent).join(" ") ||
    [...(e.labels || [])].map((l) => l.textContent).join(" ") || (e.matches("input,select,textarea") ? "" : e.textContent) || "").trim();
  for (const e of all("a[href],button,input:not([type=hidden]),select,textarea,nav,section,[role=img],[role=region]")) {
    if (shown(e) && !name(e)) say(e, "no accessible name");
  }
  for (const e of all("fieldset")) if (!e.querySelector("legend")) say(e, "no legend");
  for (const e of all("table")) if (!e.querySelector("caption") || e.querySelector("th:not([scope])")) say(e, "a table without caption or scopes");
  for (const e of all("svg")) if (e.getAttribute("aria-hidden") !== "true" && !name(e)) say(e, "a picture without a name");
  for (const e of all("[style],[onclick],[tabindex]")) {
    if (e.hasAttribute("style") || e.hasAttribute("onclick") || e.tabIndex > 0) say(e, "inline style or script, or an order of its own");
  }
  for (const e of all(".chip")) if (!e.textContent.trim()) say(e, "a state without words");
  for (const e of all("[aria-invalid=true]")) if (!refer(e, "aria-describedby").length) say(e, "a fault without its reason");

  // It fits, and can be hit with a finger.
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) {
    const far = all("body *").filter((e) => shown(e) && !e.closest("pre,.hidden") && e.getBoundingClientRect().right > width + 1);
    wrong.push("wider than the window: " + far.slice(0, 3).map((e) => e.outerHTML.slice(0, 80)).join(" | "));
  }
  for (const e of all("button,input:not([type=hidden]),select,a.button,nav a")) {
    const box = e.getBoundingClientRect();
    const label = e.matches("[type=checkbox],[type=radio]") ? e.closest("label")?.getBoundingClientRect() : box;
    if (shown(e) && box.width && Math.min(label?.width ?? 0, label?.height ?? 0) < 24) say(e, `a target of ${Math.round(box.width)}×${Math.round(box.height)}`);
  }

  for (const e of all("input:not([type=hidden],[type=checkbox],[type=radio]),select,textarea")) {
    if (shown(e) && e.getBoundingClientRect().width < 120) say(e, "a field too narrow to write in");
  }

  // Contrast of every text with what is behind it.
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const d = canvas.getImageData(0, 0, 1, 1).data;
    return [d[0], d[1], d[2], d[3] / 255];
  };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
  const light = (c) => c.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    const layers = [];
    for (; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      layers.push(c);
      if (c[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  for (let t; (t = texts.nextNode());) {
    const e = t.parentElement;
    if (!t.textContent.trim() || seen.has(e) || !shown(e) || e.closest(".hidden,.skip,option,script")) continue;
    seen.add(e);
    const style = getComputedStyle(e), back = behind(e);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    const r = ratio(over(rgba(style.color), back), back);
    if (r < (large ? 3 : 4.5)) say(e, `contrast ${r.toFixed(2)}`);
  }
  for (const e of all("input:not([type=hidden]),select,textarea,.button.quiet")) {
    if (!shown(e)) continue;
    const style = getComputedStyle(e), back = behind(e.parentElement);
    if (ratio(over(rgba(style.borderTopColor), back), back) < 3) say(e, "a border that is hard to see");
  }
  return wrong;
})()
