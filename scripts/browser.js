// Tests pages in Chromium; scripts/browser starts it and says what is tested.
"use strict";
const fs = require("fs");
const path = require("path");
const { pathToFileURL } = require("url");
const { chromium } = require("playwright-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const failures = [];
/** Records a failure unless the condition holds. */
function expect(condition, what) {
  console.log(`${condition ? "ok  " : "FAIL"} ${what}`);
  if (!condition) failures.push(what);
}

/** Opens a page in a context with the options, and records every message of its console and every request. */
async function open(browser, file, options) {
  // axe-core is not part of the page, so that the page's content security policy would refuse it.
  const context = await browser.newContext({ ...options, bypassCSP: Boolean(options.bypassCSP) });
  const page = await context.newPage();
  const seen = { errors: [], requests: [], dialogs: 0 };
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) seen.errors.push(message.text());
  });
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("dialog", (dialog) => {
    seen.dialogs += 1;
    dialog.dismiss();
  });
  const address = pathToFileURL(path.resolve(file)).href;
  page.on("request", (request) => {
    const url = request.url();
    if (url.split("#")[0] !== address && !url.startsWith("data:")) seen.requests.push(url);
  });
  await page.goto(address, { waitUntil: "load" });
  return { context, page, seen };
}

/** The number of boxes and images of the gallery that are shown. */
const gallery = (page) =>
  page.evaluate(() => {
    const root = document.querySelector("#gallery-grid");
    return {
      images: [...root.querySelectorAll(".cards > li")].filter((item) => !item.hidden).length,
      boxes: [...root.querySelectorAll(".cards g.d")].filter((box) => !box.classList.contains("off")).length,
      missed: root.querySelectorAll(".cards g.o.bad").length,
      status: root.querySelector(".status").textContent,
    };
  });

const slide = (page, value) =>
  page.$eval("#gallery-grid input.score", (input, to) => {
    input.value = to;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }, String(value));

/** Every image that is shown is decoded and as wide as its card. */
async function testImages(page) {
  const wrong = await page.evaluate(async () => {
    const images = [...document.querySelectorAll(".cards > li:not([hidden]) img")];
    await Promise.all(images.map((image) => image.decode()));
    const fills = (image) => image.getBoundingClientRect().width > 0.9 * image.closest("li").getBoundingClientRect().width;
    return images.filter((image) => image.naturalWidth === 0 || !fills(image)).length;
  });
  expect(wrong === 0, `all images are shown as wide as their cards (${wrong} are not)`);
}

async function testGallery(page) {
  if (!(await page.$("#gallery-grid input.score"))) return console.log("     the page has no gallery with a slider");
  await slide(page, 0);
  const all = await gallery(page);
  await slide(page, 1);
  const none = await gallery(page);
  expect(all.boxes > none.boxes, `the slider hides detections: ${all.boxes} at 0, ${none.boxes} at 1`);
  expect(none.missed >= all.missed, `more objects are missed at 1 (${none.missed}) than at 0 (${all.missed})`);
  await page.focus("#gallery-grid input.score");
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowRight");
  const said = await page.textContent("#gallery-grid output");
  expect(said !== "1.00", `the keyboard moves the slider (to ${said})`);
  const before = (await gallery(page)).images;
  const choices = await page.$$eval("#gallery-grid select.class option", (options) => options.map((o) => o.value));
  const rarest = choices[choices.length - 1];
  await page.selectOption("#gallery-grid select.class", rarest);
  const shown = await page.evaluate((wanted) => {
    const shownBoxes = [...document.querySelectorAll("#gallery-grid .cards g")].filter((g) => !g.classList.contains("off"));
    return shownBoxes.every((g) => g.dataset.c === wanted);
  }, rarest);
  const after = (await gallery(page)).images;
  expect(shown && after <= before, `a class filters the images: ${before} of all, ${after} of the last class`);
  await page.selectOption("#gallery-grid select.class", "");
  await page.check("#gallery-grid input.only");
  expect((await gallery(page)).images <= before, "images without errors can be left out");
  await page.uncheck("#gallery-grid input.only");
  for (const order of ["missed", "false", "name", "errors"]) await page.selectOption("#gallery-grid select.order", order);
  const open = page.locator("#gallery-grid .cards > li:not([hidden]) .open").first();
  await open.focus();
  await page.keyboard.press("Enter");
  expect(await page.$eval("dialog", (dialog) => dialog.open), "the keyboard enlarges an image");
  await page.keyboard.press("Escape");
  expect(!(await page.$eval("dialog", (dialog) => dialog.open)), "Escape closes it");
}

async function testTables(page) {
  const tables = await page.$$("table.sortable");
  let sorted = 0;
  for (const table of tables) {
    // A table that is folded away is opened first.
    await table.evaluate((each) => each.closest("details")?.setAttribute("open", ""));
    const heads = await table.$$("thead th");
    for (let column = 0; column < heads.length; column += 1) {
      const button = await heads[column].$("button");
      for (const turn of [0, 1]) {
        await button.focus();
        await page.keyboard.press("Enter");
        const wrong = await table.evaluate((each, [index]) => {
          const head = each.tHead.rows[0].cells[index];
          const numeric = head.classList.contains("n");
          const sign = head.getAttribute("aria-sort") === "ascending" ? 1 : -1;
          const cells = [...each.tBodies[0].rows].map((row) => row.cells[index]);
          const keys = cells.map((cell) => (numeric ? parseFloat(cell.dataset.v) : cell.textContent));
          const known = keys.filter((key) => !Number.isNaN(key));
          return known.some((key, at) => at > 0 && sign * (numeric ? known[at - 1] - key : known[at - 1].localeCompare(key)) > 0);
        }, [column, turn]);
        if (wrong) expect(false, `table ${sorted}, column ${column} is not sorted`);
      }
    }
    sorted += 1;
  }
  console.log(`ok   ${sorted} tables sort by every column, in both directions`);
}

/** Goes through the page with the Tab key: the skip link comes first, and the focus follows the order of the page. */
async function testTabs(page) {
  await page.evaluate(() => {
    document.activeElement?.blur();
    window.scrollTo(0, 0);
  });
  await page.mouse.click(2, 2);
  let [steps, backwards, hidden] = [0, 0, 0];
  let first = "";
  for (; steps < 60; steps += 1) {
    await page.keyboard.press("Tab");
    const state = await page.evaluate(() => {
      const own = document.activeElement;
      if (!own || own === document.body) return null;
      const follows = !window.lastFocus || Boolean(window.lastFocus.compareDocumentPosition(own) & 4) || window.lastFocus === own;
      window.lastFocus = own;
      const { width, height } = own.getBoundingClientRect();
      return { text: own.textContent.slice(0, 30), follows, visible: width > 0 && height > 0 };
    });
    if (!state) break;
    if (steps === 0) first = state.text;
    backwards += !state.follows;
    hidden += !state.visible;
  }
  // A page with few links and buttons has as many steps as it has of them.
  const stops = await page.evaluate(
    () =>
      [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")].filter(
        (item) => !item.disabled && item.checkVisibility(),
      ).length,
  );
  expect(first.startsWith("Skip"), `the first Tab reaches the skip link (${first})`);
  expect(steps >= Math.min(11, stops) && backwards === 0 && hidden === 0, `${steps} steps of Tab follow the page (${backwards} back, ${hidden} hidden)`);
}

async function testRules(browser, file, scheme) {
  const { context, page } = await open(browser, file, { colorScheme: scheme, bypassCSP: true });
  await page.evaluate(() => document.querySelectorAll("details").forEach((each) => each.setAttribute("open", "")));
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document));
  for (const { id, impact, nodes, help } of violations) {
    console.log(`     axe ${impact}: ${id}, ${nodes.length} elements: ${help}: ${nodes[0].html.slice(0, 160)}`);
  }
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  expect(serious.length === 0, `axe-core finds nothing serious (${scheme}); ${violations.length} in all`);
  await context.close();
}

async function test(browser, file) {
  const name = path.basename(path.dirname(path.resolve(file))) + "-" + path.basename(file, ".html");
  console.log(`== ${file}`);
  const size = fs.statSync(file).size;
  expect(size < 5e6, `the page has ${(size / 1e6).toFixed(2)} MB, less than 5`);
  for (const [kind, options] of [
    ["light", { colorScheme: "light", viewport: { width: 1280, height: 900 } }],
    ["dark", { colorScheme: "dark", viewport: { width: 1280, height: 900 } }],
    ["phone", { colorScheme: "light", viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }],
  ]) {
    const { context, page, seen } = await open(browser, file, options);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    expect(wide <= 0, `${kind}: nothing is wider than the window (${wide} px)`);
    await testImages(page);
    await page.screenshot({ path: path.join(process.env.SHOTS, `${name}-${kind}.png`), fullPage: true });
    if (kind === "light") {
      await testTabs(page);
      await testTables(page);
      await testGallery(page);
    }
    expect(seen.errors.length === 0, `${kind}: no error on the console ${seen.errors.slice(0, 3).join("; ")}`);
    expect(seen.requests.length === 0, `${kind}: no request leaves the page ${seen.requests.slice(0, 3).join("; ")}`);
    expect(seen.dialogs === 0, `${kind}: no name from data runs as a script`);
    await context.close();
  }
  for (const scheme of ["light", "dark"]) await testRules(browser, file, scheme);
}

(async () => {
  const args = ["--no-sandbox", "--disable-gpu"];
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args });
  try {
    for (const file of process.argv.slice(2)) await test(browser, file);
  } finally {
    await browser.close();
  }
  console.log(`screenshots: ${process.env.SHOTS}`);
  if (failures.length > 0) {
    console.log(`browser: ${failures.length} failures`);
    process.exit(1);
  }
  console.log("browser: passed");
})().catch((error) => {
  console.error(`browser: ${error.stack}`);
  process.exit(1);
});
