// What Unfold leaves to the mouse or to the eye alone is given to keys and to screen readers as well.
document.addEventListener("DOMContentLoaded", () => {
  const words = document.querySelector("[data-words]")?.dataset ?? {};
  const byIcon = {
    close: words.close, computer: words.theme, dark_mode: words.theme, dock_to_right: words.menu, light_mode: words.theme,
    more_vert: words.more, search: words.search, visibility: words.password,
  };

  if (!document.querySelector("main")) {
    const main = document.getElementById("main") ?? document.getElementById("page");
    main?.setAttribute("role", "main");
  }

  // SimpleBar, which starts after us, would name every box alike, and in English.
  for (const box of document.querySelectorAll("[data-simplebar]")) {
    box.dataset.simplebarAriaLabel = box.closest("nav") ? words.menu : document.querySelector("h1")?.innerText.trim();
  }

  function mend(root) {
    for (const one of root.querySelectorAll("[x-on\\:click]:not(button, input, select, textarea, summary, a[href])")) {
      if (!one.textContent.trim()) continue; // the ground behind a drawer
      const [, opens] = one.getAttribute("x-on:click").match(/^(\w+) = !\1\b/) ?? [];
      one.setAttribute("role", "button");
      one.tabIndex = 0;
      one.addEventListener("keydown", (event) => {
        if (event.target !== one || (event.key !== "Enter" && event.key !== " ")) return;
        event.preventDefault();
        one.click();
      });
      if (opens) {
        window.Alpine?.effect(() => one.setAttribute("aria-expanded", String(Boolean(Alpine.evaluate(one, opens)))));
      }
    }
    // An icon's text is the name of a picture, and no name for the button around it.
    for (const icon of root.querySelectorAll(".material-symbols-outlined")) {
      const control = icon.closest("a, button, [role=button]");
      const isAlone = control && control.textContent.trim() === icon.textContent.trim();
      if (isAlone && !control.ariaLabel && !control.title) {
        const name = control.href ? words.home : byIcon[icon.textContent.trim()];
        if (name) control.ariaLabel = name;
      }
      if (icon !== control && !(isAlone && !control.ariaLabel && !control.title)) icon.ariaHidden = "true";
    }
  }
  mend(document);
  document.addEventListener("htmx:afterSettle", (event) => mend(event.target));
});

// Fields that scripts have made or Unfold has left without a name get their label's.
addEventListener("load", () => {
  for (const field of document.querySelectorAll(".vDateField, .vTimeField")) {
    if (!field.labels.length) name(field, field.closest(".field-line, .form-row")?.querySelector("label"));
  }
  window.django?.jQuery?.(() => { // once Select2 is there
    for (const select of document.querySelectorAll("select.select2-hidden-accessible")) {
      const parts = select.nextElementSibling.querySelectorAll(".select2-selection, .select2-selection__rendered, input");
      parts.forEach((part) => name(part, select.labels[0]));
    }
  });

  function name(field, label) {
    if (label) field.setAttribute("aria-label", label.innerText.replace("*", "").trim());
  }
});
