/** The form of a new model: shows what the chosen task needs. */

const tasks = JSON.parse(document.getElementById("tasks-of-field").textContent);
const byName = (name) => document.querySelector(`[name="${name}"]`);

function showWhatIsNeeded() {
  for (const [name, task] of Object.entries(tasks)) {
    const field = byName(name)?.closest(".field");
    if (field) field.hidden = task !== byName("task").value;
  }
}

byName("task").addEventListener("change", showWhatIsNeeded);
showWhatIsNeeded();
