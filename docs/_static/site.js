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
