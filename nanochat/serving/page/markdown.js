// Renders a subset of Markdown as DOM elements. Text is only ever inserted as text nodes, so a model's output cannot
// become HTML.
//
// Underscores are literal: in answers about Python they are mostly part of names such as __init__.

function createElement(tag, ...children) {
  const node = document.createElement(tag);
  node.append(...children);
  return node;
}

const FENCE = /^ {0,3}(```+|~~~+)\s*([\w+#.-]*)\s*$/;
const HEADING = /^(#{1,6})\s+(.*?)\s*#*$/;
const BULLET = /^(\s*)[-*+]\s+(.*)$/;
const NUMBER = /^(\s*)(\d{1,9})[.)]\s+(.*)$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}>\s?(.*)$/;
const DOCTEST = /^\s*>>> /;
const MAX_DEPTH = 8; // of nested block quotes

const startsBlock = (line) => [FENCE, HEADING, BULLET, NUMBER, RULE, QUOTE, DOCTEST].some((kind) => kind.test(line));

export function markdown(text, depth = 0) {
  const found = document.createDocumentFragment();
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  let at = 0;

  const takeWhile = (predicate) => {
    const begin = at;
    while (at < lines.length && predicate(lines[at])) at += 1;
    return lines.slice(begin, at);
  };

  while (at < lines.length) {
    const line = lines[at];
    let match;
    if (!line.trim()) {
      at += 1;
    } else if ((match = line.match(FENCE))) {
      at += 1;
      const end = (other) => other.trim().startsWith(match[1]) && other.trim() === match[1][0].repeat(other.trim().length);
      found.append(codeBlock(takeWhile((other) => !end(other)).join("\n"), match[2]));
      at += 1;
    } else if (DOCTEST.test(line)) {
      // a doctest example, up to the next empty line
      found.append(codeBlock(takeWhile((other) => other.trim()).join("\n"), "python"));
    } else if ((match = line.match(HEADING))) {
      at += 1;
      found.append(createElement(`h${Math.min(6, match[1].length + 2)}`, inline(match[2])));
    } else if (RULE.test(line)) {
      at += 1;
      found.append(createElement("hr"));
    } else if (QUOTE.test(line) && depth < MAX_DEPTH) {
      const inner = takeWhile((other) => QUOTE.test(other)).map((other) => other.match(QUOTE)[1]);
      found.append(createElement("blockquote", markdown(inner.join("\n"), depth + 1)));
    } else if (BULLET.test(line) || NUMBER.test(line)) {
      found.append(list(takeWhile((other) => other.trim() && (BULLET.test(other) || NUMBER.test(other) || /^\s{2,}/.test(other)))));
    } else {
      at += 1;
      const paragraph = [line, ...takeWhile((other) => other.trim() && !startsBlock(other))];
      const node = createElement("p");
      paragraph.forEach((part, number) => node.append(...(number ? [createElement("br")] : []), inline(part.trim())));
      found.append(node);
    }
  }
  return found;
}

function codeBlock(text, language) {
  const code = createElement("code", text);
  const block = createElement("div", createElement("pre", code));
  block.className = "code";
  if (language) block.dataset.language = language;
  return block;
}

// A list; indented items become nested lists.
function list(lines) {
  const indent = (line) => line.match(/^\s*/)[0].length;
  const first = lines[0].match(NUMBER);
  const node = createElement(first ? "ol" : "ul");
  if (first && first[2] !== "1") node.start = Number(first[2]);
  let at = 0;
  while (at < lines.length) {
    const match = lines[at].match(NUMBER) || lines[at].match(BULLET);
    const item = createElement("li", inline((match ? match[match.length - 1] : lines[at]).trim()));
    const itemIndent = indent(lines[at]);
    at += 1;
    const nested = [];
    while (at < lines.length && indent(lines[at]) > itemIndent) nested.push(lines[at++]);
    while (nested.length && !BULLET.test(nested[0]) && !NUMBER.test(nested[0])) item.append(" ", inline(nested.shift().trim()));
    if (nested.length) item.append(list(nested));
    node.append(item);
  }
  return node;
}

const LINK = /^\[([^\][]{1,300})\]\((https?:\/\/[^\s()<>]{1,2000})\)/;
const URL_PATTERN = /^https?:\/\/[^\s<>"'`)\]]*[^\s<>"'`)\].,;:!?]/;

function anchor(url, ...children) {
  const node = createElement("a", ...children);
  node.href = url;
  node.target = "_blank";
  node.rel = "noopener noreferrer nofollow";
  return node;
}

// Code, links, bold and emphasis. Each step consumes what it matches, so the time is linear in the length.
function inline(text) {
  const found = document.createDocumentFragment();
  let plain = "";
  let at = 0;
  const append = (node, length) => {
    found.append(plain, node);
    plain = "";
    at += length;
  };
  while (at < text.length) {
    const rest = text.slice(at, at + 2400);
    const before = text[at - 1] || " ";
    let match;
    if (text[at] === "`" && (match = rest.match(/^(`+)([^`]+|[^`].*?[^`])\1(?!`)/))) {
      append(createElement("code", match[2].trim() || match[2]), match[0].length);
    } else if (text[at] === "[" && (match = rest.match(LINK))) {
      append(anchor(match[2], match[1]), match[0].length);
    } else if (text[at] === "h" && !/\w/.test(before) && (match = rest.match(URL_PATTERN))) {
      append(anchor(match[0], match[0]), match[0].length);
    } else if (text[at] === "*" && !/[\w*]/.test(before) && (match = rest.match(/^\*\*([^\s*](?:[^*]*[^\s*])?)\*\*(?![\w*])/))) {
      append(createElement("strong", inline(match[1])), match[0].length);
    } else if (text[at] === "*" && !/[\w*]/.test(before) && (match = rest.match(/^\*([^\s*](?:[^*]*[^\s*])?)\*(?![\w*])/))) {
      append(createElement("em", inline(match[1])), match[0].length);
    } else if (text[at] === "\\" && /[`*]/.test(text[at + 1] || "")) {
      plain += text[at + 1];
      at += 2;
    } else {
      plain += text[at];
      at += 1;
    }
  }
  found.append(plain);
  return found;
}
