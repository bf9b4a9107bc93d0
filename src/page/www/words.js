// The words of the page, from one table: words.json has each in English, Japanese and German.
const LANGUAGES = ["en", "ja", "de"];
const table = await (await fetch("/words.json")).json();
let language = localStorage.getItem("language") ?? navigator.language.slice(0, 2);
if (!LANGUAGES.includes(language)) language = "en";

/** A word; what the table has not is shown as it is. */
export function word(key) {
  return table[key]?.[LANGUAGES.indexOf(language)] ?? key;
}

export function knows(key) {
  return key in table;
}

/** A number as the language writes it. */
export function number(value, digits = 0) {
  return value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function time(milliseconds) {
  return new Date(milliseconds).toLocaleTimeString(language);
}

/** Writes the words into the page. */
function write() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = word(element.dataset.word);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", word(element.dataset.label));
  for (const element of document.querySelectorAll("[data-title]")) {
    element.title = word(element.dataset.title);
    element.setAttribute("aria-label", element.title);
  }
}

/** The choice of the language; `changed` is called when another is chosen. */
export function languages(select, changed) {
  select.value = language;
  select.addEventListener("change", () => {
    language = select.value;
    localStorage.setItem("language", language);
    write();
    changed();
  });
  write();
}

/** The next language. */
export function next(select) {
  select.value = LANGUAGES[(LANGUAGES.indexOf(language) + 1) % LANGUAGES.length];
  select.dispatchEvent(new Event("change"));
}
