// Preloaded by NNI's Node: its page has its icons without the internet, and asks nobody there for them.
//
// NNI takes fonts of letters and icons from a server of Microsoft's. The letters can be those of the reader's system; the
// icons are drawn here with a font that NNI brings for its editor, Codicons, as far as it has the same or a like one.
//
// Loaded before page_guard.js, which then decides first what is answered at all.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");

/** Codicons by the name that the page gives its icon. */
const ICONS = {
    Add: "ea60", Back: "ea9b", BarChartHorizontal: "ebad", Blocked2: "eabd", BulletedList: "eb17", Calendar: "eab0",
    Cancel: "ea76", CheckMark: "eab2", ChevronDown: "eab4", ChevronDownMed: "eab4", ChevronLeft: "eab5",
    ChevronLeftMed: "eab5", ChevronRight: "eab6", ChevronRightMed: "eab6", ChevronUp: "eab7", ChevronUpMed: "eab7",
    CircleRing: "eabc", CircleShapeSolid: "ea71", Clear: "ea76", Compare: "ebcb", Completed: "eba4", Copy: "ebcc",
    CustomList: "eb84", Delete: "ea81", DisableUpdates: "eba5", Document: "ea7b", DoubleChevronDown: "eaf3",
    DoubleChevronUp: "eaf4", Down: "ea9a", Download: "eac2", Edit: "ea73", Equalizer: "eb52", ErrorBadge: "ea87",
    Feedback: "eb96", Filter: "eaf1", FlowChart: "ebb9", GripperBarVertical: "eb04", GroupedDescending: "eb97",
    HomeGroup: "ebba", Important: "ea6c", Info: "ea74", LineChart: "ebe2", M365InvoicingLogo: "eb9d", Market: "ebe2",
    MarketDown: "ebad", Message: "ea6b", More: "ea7c", Move: "eb22", Refresh: "eb37", ReminderTime: "eb7c",
    ReplyAll: "eb3c", RevToggleKey: "eb17", Save: "eb4b", Search: "ea6d", SortDown: "ea9a", SortUp: "eaa1",
    StackedLineChart: "ebe2", StatusCircleBlock: "eabd", StatusCircleCheckmark: "eab2", Tag: "ea66",
    TestParameter: "ea92", Timer: "ea82", Up: "eaa1", Warning: "ea6c",
};

/** What stands at the top of NNI's page for them; "" where this NNI has no such font. */
function head(folder) {
    const media = path.join(folder, "static", "media");
    const font = fs.existsSync(media) && fs.readdirSync(media).find((name) => /^codicon\..*\.ttf$/.test(name));
    if (!font) {
        return "";
    }
    const named = (name) => `i[data-icon-name="${name}" i]`;
    const glyphs = Object.entries(ICONS).map(([name, code]) => `${named(name)}::before{content:"\\${code}"}`);
    const all = Object.keys(ICONS).map(named);
    const style = [
        `@font-face{font-family:"codicon of NNI";src:url("./static/media/${font}")}`,
        `${all.join(",")}{font-size:0!important}`,
        `${all.map((name) => `${name}::before`).join(",")}{font:normal 16px/1 "codicon of NNI"}`,
        ...glyphs,
    ];
    // an address that is none of the internet's, as NNI's own comes in its place where it is empty
    const fonts = 'window.FabricConfig={fontBaseUrl:"",iconBaseUrl:"data:,"}';
    return `<script>${fonts}</script><style>${style.join("")}</style>`;
}

const folder = path.resolve("static");
const index = path.join(folder, "index.html");
const page = fs.existsSync(index) ? fs.readFileSync(index, "utf8").replace("<head>", () => `<head>${head(folder)}`) : null;

/** Where NNI answers with its page. */
const PAGES = new Set(["/", "/index.html", "/oview", "/detail", "/experiment"]);

function isPage({ method, url }) {
    return method === "GET" && PAGES.has(url.split("?")[0]);
}

const emit = http.Server.prototype.emit;

http.Server.prototype.emit = function (event, ...args) {
    if (event !== "request" || page === null || !isPage(args[0])) {
        return emit.call(this, event, ...args);
    }
    const headers = { "Content-Type": "text/html; charset=utf-8", "Content-Length": Buffer.byteLength(page) };
    args[1].writeHead(200, { ...headers, "Cache-Control": "no-cache" }).end(page);
    return true;
};
