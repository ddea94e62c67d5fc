#include <algorithm>

#include "client/commands/task.h"

namespace qwen3::client {

Result evaluate(Context& context, const EvaluateOptions& options) {
  v1::EvaluateRequest request;
  request.set_request_id(options.request_id);
  v1::EvaluationSpec& spec = *request.mutable_evaluation();
  const auto source = model_source(options.model);
  if (!source.ok()) return source.status();
  *spec.mutable_model() = *source;
  if (!options.tokens.empty()) spec.set_tokens_file(absolute_path(options.tokens));
  if (!options.text.empty()) spec.set_text_path(absolute_path(options.text));
  spec.set_dtype(options.dtype);
  const auto writes = [&](const char* what) { return std::ranges::find(options.write, what) != options.write.end(); };
  spec.set_write_logits(writes("logits"));
  spec.set_write_gradients(writes("gradients"));
  spec.set_output_folder(absolute_path(options.folder));
  spec.set_tokenizer_path(absolute_path(options.tokenizer));
  spec.set_seq_len(options.seq_len);
  spec.set_local_batch_size(options.local_batch_size);
  spec.set_steps(options.steps);
  if (absl::Status status = apply_overrides(options.set, spec); !status.ok()) return status;
  return run_task(context, options, [&](Client& client) { return client.evaluate(request); });
}

}  // namespace qwen3::client
