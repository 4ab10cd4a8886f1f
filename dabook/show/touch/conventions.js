// The same predictions under other conventions (dabook/show/touch/conventions.py).
dalibTouch.wake("conventions", (figure) => {
  const { choices, errors, good, factors, places } = figure.payload;
  const mark = figure.find(".charts [data-mark]"), line = mark.getAttribute("d").replace(/^M\S+/, "");
  const controls = Object.keys(choices).map((key) => [figure.control(key), choices[key].length]);

  const update = () => {
    // the last choice runs fastest
    const at = controls.reduce((index, [control, count]) => index * count + control.selectedIndex, 0);
    mark.setAttribute("d", `M${places[at] ?? 0}${line}`);
    mark.style.visibility = places[at] === null ? "hidden" : "visible";
    const words = controls.map(([control]) => control.options[control.selectedIndex].text).join(", ");
    figure.say({ error: errors[at], good: good[at], factor: factors[at] }, `${words}: AbsRel ${errors[at]}, ${factors[at]} of the protocol's.`);
  };
  for (const [control] of controls) control.addEventListener("input", update);
  update();
});
