// A little Markdown as elements of the page. Text becomes text nodes and nothing else: whatever a model writes, it
// cannot become HTML.
//
// Underscores mean nothing here: in answers about Python, __init__ and *args are names far more often than emphasis.

function make(tag, ...children) {
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
const MOST_DEPTH = 8; // of quotations within quotations

const begins = (line) => [FENCE, HEADING, BULLET, NUMBER, RULE, QUOTE, DOCTEST].some((kind) => kind.test(line));

export function markdown(text, depth = 0) {
  const found = document.createDocumentFragment();
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  let at = 0;

  const takeWhile = (good) => {
    const begin = at;
    while (at < lines.length && good(lines[at])) at += 1;
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
      // an example from a docstring, up to the next empty line
      found.append(codeBlock(takeWhile((other) => other.trim()).join("\n"), "python"));
    } else if ((match = line.match(HEADING))) {
      at += 1;
      found.append(make(`h${Math.min(6, match[1].length + 2)}`, inline(match[2])));
    } else if (RULE.test(line)) {
      at += 1;
      found.append(make("hr"));
    } else if (QUOTE.test(line) && depth < MOST_DEPTH) {
      const inner = takeWhile((other) => QUOTE.test(other)).map((other) => other.match(QUOTE)[1]);
      found.append(make("blockquote", markdown(inner.join("\n"), depth + 1)));
    } else if (BULLET.test(line) || NUMBER.test(line)) {
      found.append(list(takeWhile((other) => other.trim() && (BULLET.test(other) || NUMBER.test(other) || /^\s{2,}/.test(other)))));
    } else {
      at += 1;
      const paragraph = [line, ...takeWhile((other) => other.trim() && !begins(other))];
      const node = make("p");
      paragraph.forEach((part, number) => node.append(...(number ? [make("br")] : []), inline(part.trim())));
      found.append(node);
    }
  }
  return found;
}

function codeBlock(text, language) {
  const code = make("code", text);
  const block = make("div", make("pre", code));
  block.className = "code";
  if (language) block.dataset.language = language;
  return block;
}

// Items with those that are indented below them.
function list(lines) {
  const indent = (line) => line.match(/^\s*/)[0].length;
  const first = lines[0].match(NUMBER);
  const node = make(first ? "ol" : "ul");
  if (first && first[2] !== "1") node.start = Number(first[2]);
  let at = 0;
  while (at < lines.length) {
    const match = lines[at].match(NUMBER) || lines[at].match(BULLET);
    const item = make("li", inline((match ? match[match.length - 1] : lines[at]).trim()));
    const own = indent(lines[at]);
    at += 1;
    const below = [];
    while (at < lines.length && indent(lines[at]) > own) below.push(lines[at++]);
    while (below.length && !BULLET.test(below[0]) && !NUMBER.test(below[0])) item.append(" ", inline(below.shift().trim()));
    if (below.length) item.append(list(below));
    node.append(item);
  }
  return node;
}

const LINK = /^\[([^\][]{1,300})\]\((https?:\/\/[^\s()<>]{1,2000})\)/;
const ADDRESS = /^https?:\/\/[^\s<>"'`)\]]*[^\s<>"'`)\].,;:!?]/;

function anchor(address, ...children) {
  const node = make("a", ...children);
  node.href = address;
  node.target = "_blank";
  node.rel = "noopener noreferrer nofollow";
  return node;
}

// Code, links, bold and emphasis. Each step goes on behind what it has taken, so the time is that of the length.
function inline(text) {
  const found = document.createDocumentFragment();
  let plain = "";
  let at = 0;
  const put = (node, length) => {
    found.append(plain, node);
    plain = "";
    at += length;
  };
  while (at < text.length) {
    const rest = text.slice(at, at + 2400);
    const before = text[at - 1] || " ";
    let match;
    if (text[at] === "`" && (match = rest.match(/^(`+)([^`]+|[^`].*?[^`])\1(?!`)/))) {
      put(make("code", match[2].trim() || match[2]), match[0].length);
    } else if (text[at] === "[" && (match = rest.match(LINK))) {
      put(anchor(match[2], match[1]), match[0].length);
    } else if (text[at] === "h" && !/\w/.test(before) && (match = rest.match(ADDRESS))) {
      put(anchor(match[0], match[0]), match[0].length);
    } else if (text[at] === "*" && !/[\w*]/.test(before) && (match = rest.match(/^\*\*([^\s*](?:[^*]*[^\s*])?)\*\*(?![\w*])/))) {
      put(make("strong", inline(match[1])), match[0].length);
    } else if (text[at] === "*" && !/[\w*]/.test(before) && (match = rest.match(/^\*([^\s*](?:[^*]*[^\s*])?)\*(?![\w*])/))) {
      put(make("em", inline(match[1])), match[0].length);
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
