// Wakes the questions of a page (dabook/site/quiz.py): shows what can be chosen, checks it, and says why.
(() => {
  const number = (text) => /^\s*[-−]?(\d+([.,]\d*)?|[.,]\d+)\s*$/.test(text) ? Number(text.replace("−", "-").replace(",", ".")) : NaN;

  for (const quiz of document.querySelectorAll(".dalib-quiz:not([data-awake])")) {
    const choices = [...quiz.querySelectorAll(".quiz-choice")];
    const status = quiz.querySelector("[role=status]");
    const input = (choice) => choice.querySelector("input");
    const said = quiz.dataset;

    const say = (verdict) => {
      quiz.dataset.verdict = verdict;
      status.textContent = said[verdict] ?? "";
    };
    const explain = (choice, shown, right) => {
      choice.querySelector(".quiz-why").hidden = !shown;
      choice.dataset.shown = shown ? (right ? "right" : "wrong") : "";
    };

    const checkNumber = () => {
      const [choice] = choices, value = number(input(choice).value);
      if (Number.isNaN(value)) return say("nan");
      const right = Math.abs(value - Number(choice.dataset.value)) <= Number(choice.dataset.within) + 1e-12;
      explain(choice, right, right);
      say(right ? "right" : "wrong");
    };
    const checkChoices = () => {
      const chosen = choices.filter((choice) => input(choice).checked);
      if (!chosen.length) return say("none");
      const isRight = (choice) => "right" in choice.dataset;
      for (const choice of choices) explain(choice, input(choice).checked, isRight(choice));
      const missing = choices.filter((choice) => isRight(choice) && !input(choice).checked);
      if (chosen.some((choice) => !isRight(choice))) return say("wrong");
      say(missing.length ? "partly" : "right");
    };
    const check = quiz.dataset.kind === "number" ? checkNumber : checkChoices;

    quiz.querySelector(".quiz-controls button").addEventListener("click", check);
    for (const choice of choices) {
      // Enter checks; another choice takes the verdict back
      input(choice).addEventListener("keydown", (event) => {
        if (event.key === "Enter") { event.preventDefault(); check(); }
      });
      input(choice).addEventListener("input", () => {
        choices.forEach((other) => explain(other, false));
        say("");
      });
    }
    for (const part of quiz.querySelectorAll(".quiz-live")) part.hidden = false;
    quiz.dataset.awake = "";
  }
})();
