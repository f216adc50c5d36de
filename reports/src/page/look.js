// A line through all panels over time where the pointer is, and the moment it stands for. Only a
// convenience: everything it points at has a title of its own.
for (const figure of document.querySelectorAll(".time")) {
  const caption = figure.querySelector(".caption");
  const words = caption.textContent;
  const leave = () => {
    figure.classList.remove("looked-at");
    caption.textContent = words;
  };
  figure.addEventListener("pointerleave", leave);
  figure.addEventListener("pointermove", (event) => {
    const panel = figure.querySelector(".panel").getBoundingClientRect();
    const share = (event.clientX - panel.left) / panel.width;
    if (share < 0 || share > 1) return leave();
    figure.classList.add("looked-at");
    figure.style.setProperty("--look", `${share * 100}%`);
    caption.textContent = `${(share * figure.dataset.endS).toFixed(3)} s since the start of the run`;
  });
}
