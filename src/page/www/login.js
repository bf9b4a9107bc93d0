import { languages, word } from "/words.js";

const at = (id) => document.getElementById(id);

languages(at("language"), () => at("refusal").replaceChildren());

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  at("enter").disabled = true;
  const typed = { user: at("user").value, password: at("password").value };
  try {
    const answer = await fetch("/api/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(typed),
    });
    if (answer.ok) return location.replace("/");
    const wait = answer.headers.get("Retry-After");
    const why = { 401: "refused", 429: "toomany" }[answer.status] ?? "failed";
    at("refusal").textContent = wait ? `${word(why)} ${wait} s` : word(why);
  } catch {
    at("refusal").textContent = word("offline");
  }
  at("enter").disabled = false;
  at("password").select();
});
