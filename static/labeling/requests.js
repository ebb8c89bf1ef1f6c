/** Requests of the page: JSON to and fro, with the token that Django asks for. */

function token() {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
}

/** A function that posts an object to a path under `base`; it throws when no JSON comes back. */
export function poster(base) {
  return async (path, body) => {
    const response = await fetch(base + path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": token() },
      body: JSON.stringify(body),
    });
    if (!response.headers.get("Content-Type")?.includes("json")) throw new Error(`status ${response.status}`);
    return { status: response.status, body: await response.json() };
  };
}
