/** The element of the page with an ID, which must be there. */
export function byID<E extends Element>(id: string, type: abstract new () => E): E {
  const element = document.getElementById(id);
  if (!(element instanceof type)) {
    throw new Error(`the page has no ${type.name} #${id}`);
  }
  return element;
}

/** Makes an element of a class, with text and elements in it. Text is never taken for HTML. */
export function make<T extends keyof HTMLElementTagNameMap>(
  tag: T,
  className = "",
  ...children: (Node | string)[]
): HTMLElementTagNameMap[T] {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children);
  return element;
}

/** Sets the text, unless it is there already: screen readers tell again what is set again. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Runs what a person asked for; what goes wrong is said in `to`. The button waits meanwhile. */
export async function attempt(to: Element, words: (error: unknown) => string, run: () => Promise<unknown>, button?: HTMLButtonElement | null): Promise<boolean> {
  say(to, "");
  if (button) {
    button.disabled = true;
  }
  try {
    await run();
    return true;
  } catch (error) {
    say(to, words(error));
    return false;
  } finally {
    if (button) {
      button.disabled = false;
    }
  }
}
