// Looks at HTML pages as a browser and a validator do, which the tests cannot: for developers, no part of medsweep.
//
//   npm install --no-save --prefix /some/folder axe-core html-validate puppeteer-core   # once; needs Chromium
//   NODE_PATH=/some/folder/node_modules node scripts/check_page.mjs reports/report.html [PICTURES]
//
// For each page: html-validate's errors, what axe-core finds, requests to any network, and whether the page is wider
// than the screen, at 1400 and 390 pixels; with PICTURES, full-page screenshots as PICTURES-1400.png and -390.png.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.env.NODE_PATH ?? "."}/`));
const load = async (name) => import(pathToFileURL(require.resolve(name)));
const { HtmlValidate } = await load("html-validate");
const puppeteer = (await load("puppeteer-core")).default;
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const [, , page, pictures] = process.argv;
const validator = new HtmlValidate({
  extends: ["html-validate:standard", "html-validate:a11y"],
  // Style of writing, not validity: our templates write void elements and long titles as they like.
  rules: { "void-style": "off", "no-trailing-whitespace": "off", "long-title": "off", "no-implicit-button-type": "off" },
});
let bad = 0;
const { results } = await validator.validateString(readFileSync(page, "utf8"), page);
for (const each of results.flatMap((result) => result.messages)) {
  console.log(`html ${each.line}:${each.column} ${each.ruleId}: ${each.message}`);
  bad += 1;
}
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"],
});
for (const width of [1400, 390]) {
  const tab = await browser.newPage();
  const asked = [];
  tab.on("request", (request) => request.url().startsWith("data:") || asked.push(request.url()));
  await tab.setBypassCSP(true); // the page forbids scripts, and axe-core is one
  await tab.setViewport({ width, height: width < 500 ? 844 : 1000, isMobile: width < 500 });
  await tab.goto(pathToFileURL(resolve(page)).href);
  if (pictures) await tab.screenshot({ path: `${pictures}-${width}.png`, fullPage: true });
  const [wide, screen] = await tab.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  await tab.evaluate(() => document.querySelectorAll("details").forEach((each) => (each.open = true)));
  await tab.evaluate(axe);
  const { violations, passes } = await tab.evaluate(() => axe.run());
  for (const each of violations) {
    console.log(`axe ${width} ${each.impact} ${each.id}: ${each.nodes.map((node) => node.html.slice(0, 160)).join(" | ")}`);
    bad += 1;
  }
  if (wide > screen) bad += 1;
  if (asked.length > 1) bad += 1;
  const elsewhere = asked.slice(1).join(" ") || "none";
  console.log(`${width} px: ${passes.length} rules of axe pass; page ${wide} px wide; requests beside the page: ${elsewhere}`);
  await tab.close();
}
await browser.close();
console.log(bad ? `${bad} problems` : "no problem");
process.exit(bad ? 1 : 0);
