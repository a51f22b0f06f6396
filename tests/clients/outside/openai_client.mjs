// Chat, streaming and an error through the official client for Node; JSON on stdout.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const ask = (model, more = {}) =>
  client.chat.completions.create({
    model,
    messages: [{ role: "user", content: "Hello" }],
    temperature: 0,
    ...more,
  });

const seen = { chat: (await ask("alpha")).choices[0].message.content, stream: "" };
for await (const chunk of await ask("alpha", { stream: true })) {
  seen.stream += chunk.choices[0]?.delta?.content ?? "";
}
try {
  await ask("alpa");
} catch (error) {
  if (!(error instanceof OpenAI.NotFoundError)) throw error;
  seen.error = error.message;
}
console.log(JSON.stringify(seen));
