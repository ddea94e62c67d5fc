#include "absl/strings/str_cat.h"
#include "client/commands/task.h"

namespace qwen3::client {

Result convert(Context& context, const ConvertOptions& options) {
  v1::ConvertRequest request;
  request.set_request_id(options.request_id);
  v1::ConversionSpec& spec = *request.mutable_conversion();
  const auto from = model_source(options.from);
  if (!from.ok()) return from.status();
  *spec.mutable_from() = *from;
  const auto to = model_source(options.to);
  if (!to.ok() || to->has_checkpoint()) {
    return absl::InvalidArgumentError(absl::StrCat("--to is \"", options.to, "\"; it must be hf:DIR or native:DIR"));
  }
  if (to->has_hf()) spec.set_hf(to->hf());
  if (to->has_native()) spec.set_native(to->native());
  spec.set_dtype(options.dtype);
  return run_task(context, options, [&](Client& client) { return client.convert(request); });
}

Result verify(Context& context, const VerifyOptions& options) {
  v1::VerifyRequest request;
  request.set_request_id(options.request_id);
  const auto source = model_source(options.source);
  if (!source.ok()) return source.status();
  *request.mutable_source() = *source;
  return run_task(context, options, [&](Client& client) { return client.verify(request); });
}

}  // namespace qwen3::client
