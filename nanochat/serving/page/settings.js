// The settings dialog. Values that differ from the server's defaults are stored in this browser and sent.

import { read, write } from "./store.js";

const SLIDERS = ["temperature", "top_p", "min_p", "repetition_penalty"];
const NUMBERS = ["top_k", "max_tokens", "seed"];

const field = (name) => document.getElementById(`s-${name}`);

export class Settings extends EventTarget {
  constructor(dialog) {
    super();
    this.dialog = dialog;
    this.defaults = {};
    const stored = read("settings", {});
    this.values = stored && typeof stored === "object" && !Array.isArray(stored) ? stored : {};
    for (const name of [...SLIDERS, ...NUMBERS]) field(name).addEventListener("input", () => this.readField(name));
    field("system").addEventListener("input", () => this.set("system", field("system").value || undefined));
    field("key").value = read("key", "", sessionStorage);
    field("key").addEventListener("change", () => {
      write("key", field("key").value || null, sessionStorage);
      this.dispatchEvent(new Event("key"));
    });
    document.getElementById("reset").addEventListener("click", () => {
      this.values = {};
      write("settings", null);
      this.show();
    });
    // a click on the backdrop closes the dialog
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }

  get system() {
    return typeof this.values.system === "string" ? this.values.system : "";
  }

  get sampling() {
    const given = [...SLIDERS, ...NUMBERS].filter((name) => typeof this.values[name] === "number");
    return Object.fromEntries(given.map((name) => [name, this.values[name]]));
  }

  set(name, value) {
    if (value === undefined) delete this.values[name];
    else this.values[name] = value;
    write("settings", this.values);
  }

  readField(name) {
    const input = field(name);
    const value = input.value === "" || !input.validity.valid ? undefined : Number(input.value);
    this.set(name, value === this.defaults[name] ? undefined : value);
    if (SLIDERS.includes(name)) this.showSliderValue(name);
  }

  // Takes the defaults from the model's description.
  setModel(model) {
    this.defaults = model.sampling ?? {};
    document.getElementById("system-row").hidden = !model.chat;
    this.show();
  }

  show() {
    for (const name of SLIDERS) {
      field(name).value = this.values[name] ?? this.defaults[name] ?? 1;
      this.showSliderValue(name);
    }
    for (const name of NUMBERS) field(name).value = this.values[name] ?? this.defaults[name] ?? "";
    field("system").value = this.system;
  }

  showSliderValue(name) {
    field(name).parentElement.querySelector("output").value = Number(field(name).value).toFixed(2);
  }

  open(needsKey = false) {
    this.show();
    if (needsKey) document.getElementById("key-row").hidden = false;
    if (!this.dialog.open) this.dialog.showModal();
    if (needsKey) field("key").focus();
  }
}
