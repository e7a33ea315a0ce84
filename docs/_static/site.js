/* What scrolls in a box of its own can be scrolled by keyboard too. */
"use strict";
const boxes = "article pre, article table, article .table-wrapper, article .math, .toc-scroll, .sidebar-scroll";
const makeFocusable = () => {
    for (const box of document.querySelectorAll(boxes)) {
        if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
        else box.removeAttribute("tabindex");
    }
};
addEventListener("load", makeFocusable);
addEventListener("resize", makeFocusable);

// On a phone a wide picture is small: a click opens it alone.
addEventListener("DOMContentLoaded", () => {
    for (const image of document.querySelectorAll("article img")) {
        if (image.closest("a") || !image.alt) continue;
        const link = document.createElement("a");
        link.href = image.src;
        link.className = [...image.classList].filter((name) => name.startsWith("only-")).join(" ");
        image.replaceWith(link);
        link.append(image);
    }
});
