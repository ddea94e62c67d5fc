#include "client/arguments.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <exception>
#include <functional>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "client/errors.h"
#include "client/exit_code.h"
#include "spec/build_info/build_info.h"

namespace qwen3::client {
namespace {

using Body = std::function<Result(Context&)>;

// "90", "90s", "10m", "1h30m".
absl::Duration parse_timeout(const std::string& text) {
  absl::Duration duration;
  const bool plain = text.find_first_not_of("0123456789.") == std::string::npos;
  if (!absl::ParseDuration(plain ? text + "s" : text, &duration) || duration < absl::ZeroDuration()) {
    throw CLI::ValidationError("--timeout", absl::StrCat("want a duration such as 90s or 10m, got ", text));
  }
  return duration;
}

// The options of every command. They live as long as the parser, whose flags point at them.
struct Options {
  SubmitOptions submit;
  LogsOptions logs;
  TraceOptions trace;
  TokenizeOptions tokenize;
  DownloadOptions download;
  LocalOptions local;
  EvaluateOptions evaluate;
  ConvertOptions convert;
  VerifyOptions verify;
  ParityOptions parity;
  std::string job;
  std::string request_id;
  std::string timeout;
  int limit = 100;
  bool follow = false;
};

class CommandLine {
 public:
  CommandLine(CLI::App& app, Options& options, Body& body) : app_(app), options_(options), body_(body) {
    add_submit();
    add_job_commands();
    add_streams();
    add_service_commands();
    add_tokenize();
    add_download();
    add_tasks();
    add_operations();
    add_parity();
    add_local();
  }

 private:
  // One command; it is `run` that happens when it is the one given.
  CLI::App* add(CLI::App& parent, const std::string& name, const std::string& description, const std::string& examples,
                Body run) {
    CLI::App* command = parent.add_subcommand(name, description);
    command->footer("Example:\n  " + examples);
    command->callback([this, run = std::move(run)] { body_ = run; });
    return command;
  }

  void take_job(CLI::App* command, std::string& target) {
    command->add_option("JOB", target, "Job: its id or its full name")->required();
  }

  void add_submit() {
    SubmitOptions& o = options_.submit;
    CLI::App* command =
        add(app_, "submit", "Submit a job", "qwen3ctl submit configs/debugmodel.toml --watch --set training.steps=100",
            [&o](Context& context) { return submit(context, o); });
    command->add_option("FILE", o.file, "Configuration of the job (TOML)")->required()->check(CLI::ExistingFile);
    command->add_option("--set", o.set, "Overrides a key of the file: section.key=value (may be repeated)")
        ->allow_extra_args(false)
        ->type_name("KEY=VALUE");
    command->add_flag("--watch,-w", o.watch, "Show the job until it ends; the exit status is that of the job");
    command->add_flag("--dry-run", o.dry_run, "Check the job and print its plan; start nothing");
    command->add_flag("--quiet,-q", o.quiet, "Print the job's name only");
    command->add_option("--job-id", o.job_id, "Id of the job. Default: made by the server");
    command->add_option("--request-id", o.request_id,
                        "A repeated submission with the same id makes no second job. Default: random");
  }

  void add_job_commands() {
    std::string& job = options_.job;
    CLI::App* command = add(app_, "list", "List jobs, newest first", "qwen3ctl list --limit 20",
                            [this](Context& context) { return list(context, options_.limit); });
    command->add_option("--limit", options_.limit, "At most so many jobs")
        ->capture_default_str()
        ->check(CLI::Range(1, 1000000));

    command = add(app_, "describe", "Show all about one job", "qwen3ctl describe quick-1",
                  [&job](Context& context) { return describe(context, job); });
    take_job(command, job);

    command = add(app_, "cancel", "End a job", "qwen3ctl cancel quick-1",
                  [this](Context& context) { return cancel(context, options_.job, options_.request_id); });
    take_job(command, job);
    command->add_option("--request-id", options_.request_id, "Makes the call idempotent. Default: random");

    command = add(app_, "trace", "Record the next steps of a running job as a trace file for Perfetto",
                  "qwen3ctl trace quick-1 --steps 3 --output trace.json",
                  [this](Context& context) { return trace(context, options_.trace); });
    take_job(command, options_.trace.job);
    command->add_option("--steps", options_.trace.steps, "Steps to record")
        ->capture_default_str()
        ->check(CLI::Range(1, 1000));
    command->add_option("--output", options_.trace.output, "File for the trace. Default: trace-JOB.json");
    command->add_option("--request-id", options_.trace.request_id, "Makes the call idempotent. Default: random");

    command = add(app_, "wait", "Wait until a job ends; the exit status is that of the job",
                  "qwen3ctl wait quick-1 --timeout 10m", [this](Context& context) {
                    return wait(context, options_.job,
                                options_.timeout.empty() ? absl::InfiniteDuration() : parse_timeout(options_.timeout));
                  });
    take_job(command, job);
    command->add_option("--timeout", options_.timeout, "Exit with 124 after this time, e.g. 90s or 10m")
        ->check([](const std::string& text) {
          parse_timeout(text);
          return std::string();
        });

    command = add(app_, "checkpoints", "List the checkpoints of a job", "qwen3ctl checkpoints quick-1",
                  [&job](Context& context) { return checkpoints(context, job); });
    take_job(command, job);
  }

  void add_streams() {
    std::string& job = options_.job;
    bool& follow = options_.follow;
    CLI::App* command = add(app_, "watch", "Show a job live until it ends; Ctrl-C detaches", "qwen3ctl watch quick-1",
                            [&job](Context& context) { return watch(context, job); });
    take_job(command, job);

    LogsOptions& o = options_.logs;
    command = add(app_, "logs", "Print what the ranks of a job printed", "qwen3ctl logs quick-1 -f --rank 0",
                  [&o](Context& context) { return logs(context, o); });
    take_job(command, o.job);
    command->add_flag("-f,--follow", o.follow, "Wait for more until the job ends");
    command->add_option("--rank", o.ranks, "Only this rank (may be repeated)")->allow_extra_args(false)->delimiter(',');

    command = add(app_, "metrics", "Print the step reports of a job", "qwen3ctl metrics quick-1 --output json",
                  [&](Context& context) { return metrics(context, job, follow); });
    take_job(command, job);
    command->add_flag("-f,--follow", follow, "Wait for more until the job ends");

    command = add(app_, "events", "Print what happened to a job", "qwen3ctl events quick-1 -f",
                  [&](Context& context) { return events(context, job, follow); });
    take_job(command, job);
    command->add_flag("-f,--follow", follow, "Wait for more until the job ends");
  }

  void add_service_commands() {
    add(app_, "workers", "List the workers and their slots", "qwen3ctl workers", workers);
    add(app_, "version", "Print the versions of client and server", "qwen3ctl version", version);
  }

  void add_tokenize() {
    TokenizeOptions& o = options_.tokenize;
    CLI::App* command =
        add(app_, "tokenize", "Map JSON lines of strings on stdin to JSON lines of token ids, or back",
            "echo '\"Hello world\"' | qwen3ctl tokenize", [&o](Context& context) { return tokenize(context, o); });
    command->add_option("--tokenizer", o.tokenizer,
                        "A tokenizer.json or .tiktoken file. Default: the Qwen3 vocabulary that set-up made");
    command->add_flag("--decode", o.decode, "From token ids to strings");
  }

  void add_download() {
    DownloadOptions& o = options_.download;
    CLI::App* command =
        add(app_, "download", "Bring a model from the Hugging Face Hub, or from the mirror that HF_ENDPOINT names",
            "qwen3ctl download Qwen/Qwen3-0.6B --assets tokenizer,config",
            [&o](Context& context) { return download_repository(context, o); });
    command->add_option("REPOSITORY", o.repository, "OWNER/NAME; HF_TOKEN is sent for private ones")->required();
    command->add_option("--assets", o.assets, "Some of tokenizer, config, weights. Default: all of them")
        ->delimiter(',')
        ->allow_extra_args(false);
    command->add_option("--to", o.to, "Folder. Default: assets/hf/NAME below the data root");
    command->add_option("--revision", o.revision, "Branch, tag or commit")->capture_default_str();
  }

  void take_task_options(CLI::App* command, TaskOptions& o) {
    command->add_flag("--detach", o.detach, "Print the operation's name and return at once");
    command->add_option("--request-id", o.request_id,
                        "A repeated call with the same id starts nothing new. Default: random");
  }

  void add_tasks() {
    static const char* const kSource = "hf:DIR, native:DIR, or a job's checkpoint: JOB (its newest) or JOB/step-N";
    {
      EvaluateOptions& o = options_.evaluate;
      CLI::App* command =
          add(app_, "evaluate", "Loss, perplexity, logits and gradients of a model on given tokens or text",
              "qwen3ctl evaluate --model quick-1 --text held_out.txt\n"
              "  qwen3ctl evaluate --model hf:Qwen3-0.6B --tokens ids.safetensors --write logits --output out\n"
              "  qwen3ctl -o json evaluate --model quick-1/step-20 --text held_out.txt",
              [&o](Context& context) { return evaluate(context, o); });
      command->add_option("--model", o.model, kSource)->required();
      CLI::Option* tokens = command->add_option("--tokens", o.tokens,
                                                "safetensors file: int64 ids [B, S], optional labels and positions");
      CLI::Option* text = command->add_option("--text", o.text, "Text, as training.dataset_path");
      tokens->excludes(text);
      command->add_option("--dtype", o.dtype, "Dtype of compute: float64, float32 or bfloat16")->capture_default_str();
      command->add_option("--write", o.write, "Some of loss, logits, gradients (comma between). Default: loss")
          ->delimiter(',')
          ->allow_extra_args(false)
          ->check(CLI::IsMember({"loss", "logits", "gradients"}));
      command->add_option("--output", o.folder, "Folder of the written files (for JSON on stdout use -o json)");
      command->add_option("--set", o.set, "parallelism.KEY=VALUE or resources.KEY=VALUE (may be repeated)")
          ->allow_extra_args(false)
          ->type_name("KEY=VALUE");
      command->add_option("--tokenizer", o.tokenizer, "Of the text. Default: the model's");
      command->add_option("--seq-len", o.seq_len, "Of the text: tokens in one sequence");
      command->add_option("--batch", o.local_batch_size, "Sequences in one microbatch of one rank");
      command->add_option("--steps", o.steps, "Of the text: at most so many microbatches. Default: all");
      take_task_options(command, o);
    }
    {
      ConvertOptions& o = options_.convert;
      CLI::App* command = add(app_, "convert", "Between the native format and Hugging Face's",
                              "qwen3ctl convert --from quick-1 --to hf:exported --dtype bfloat16\n"
                              "  qwen3ctl convert --from hf:Qwen3-0.6B --to native:qwen3-0.6b",
                              [&o](Context& context) { return convert(context, o); });
      command->add_option("--from", o.from, kSource)->required();
      command->add_option("--to", o.to, "hf:DIR or native:DIR")->required();
      command->add_option("--dtype", o.dtype, "float32, bfloat16 or float16. Default: that of the source");
      take_task_options(command, o);
    }
    VerifyOptions& o = options_.verify;
    CLI::App* command = add(app_, "verify", "Read all of a model and compare it with its digests",
                            "qwen3ctl verify quick-1/step-20", [&o](Context& context) { return verify(context, o); });
    command->add_option("SOURCE", o.source, kSource)->required();
    take_task_options(command, o);
  }

  void add_operations() {
    CLI::App* operations = app_.add_subcommand("operations", "Show, wait for and end evaluations and conversions");
    operations->require_subcommand(1);
    operations->footer("Example:\n  qwen3ctl operations list");
    CLI::App* list = add(*operations, "list", "List them, newest first", "qwen3ctl operations list --limit 20",
                         [this](Context& context) { return operations_list(context, options_.limit); });
    list->add_option("--limit", options_.limit, "At most so many")
        ->capture_default_str()
        ->check(CLI::Range(1, 1000000));
    CLI::App* get = add(*operations, "get", "Show one", "qwen3ctl operations get op-abcd1234",
                        [this](Context& context) { return operations_get(context, options_.job); });
    CLI::App* wait = add(
        *operations, "wait", "Show one live until it is done; the exit status is that of the operation",
        "qwen3ctl operations wait op-abcd1234 --timeout 10m", [this](Context& context) {
          return operations_wait(context, options_.job,
                                 options_.timeout.empty() ? absl::InfiniteDuration() : parse_timeout(options_.timeout));
        });
    CLI::App* cancel = add(*operations, "cancel", "End one", "qwen3ctl operations cancel op-abcd1234",
                           [this](Context& context) { return operations_cancel(context, options_.job); });
    for (CLI::App* command : {get, wait, cancel}) {
      command->add_option("OPERATION", options_.job, "Its id or its full name")->required();
    }
    wait->add_option("--timeout", options_.timeout, "Exit with 124 after this time, e.g. 90s or 10m")
        ->check([](const std::string& text) {
          parse_timeout(text);
          return std::string();
        });
  }

  void add_parity() {
    ParityOptions& o = options_.parity;
    CLI::App* command =
        add(app_, "parity", "Compare our logits of a Hugging Face folder with a reference, and give a verdict",
            "qwen3ctl parity Qwen3-0.6B --reference transformers.safetensors --dtype float32",
            [&o](Context& context) { return parity(context, o); });
    command->add_option("HF_DIR", o.model, "Hugging Face folder")->required();
    command->add_option("--reference", o.reference,
                        "safetensors file: ids, logits [B, S, V], optional labels and positions.\n"
                        "Default: HF_DIR/parity.safetensors, else our own evaluation in float64");
    command->add_option("--tokens", o.tokens, "Tokens of an evaluation of our own. Default: random ones");
    command->add_option("--dtype", o.dtype, "float64, float32 or bfloat16")->capture_default_str();
    command->add_option("--work-dir", o.work_dir,
                        "Folder for logits, which every worker sees. Default: a temporary one");
    command->add_option("--set", o.set, "parallelism.KEY=VALUE or resources.KEY=VALUE (may be repeated)")
        ->allow_extra_args(false)
        ->type_name("KEY=VALUE");
    command->add_option("--max-kl", o.max_kl, "Limit of the mean KL divergence. Default: 1e-10, in bfloat16 5e-3");
    command->add_option("--max-difference", o.max_difference,
                        "Limit of |logit difference|. Default: 1e-4, in bfloat16 none");
  }

  void add_local() {
    LocalOptions& o = options_.local;
    CLI::App* local = app_.add_subcommand("local", "Run a whole service on this machine");
    local->require_subcommand(1);
    local->footer("Example:\n  qwen3ctl local up --workers 2 && qwen3ctl workers; qwen3ctl local down");
    CLI::App* up =
        add(*local, "up", "Start a coordinator and workers; they are the default of the other commands",
            "qwen3ctl local up --workers 2 --slots 1", [&o](Context& context) { return local_up(context, o); });
    CLI::App* down = add(*local, "down", "Stop them", "qwen3ctl local down",
                         [&o](Context& context) { return local_down(context, o); });
    CLI::App* status = add(*local, "status", "Show their state", "qwen3ctl local status",
                           [&o](Context& context) { return local_status(context, o); });
    CLI::App* supervise = add(*local, "supervise", "What `local up` leaves running", "qwen3ctl local up",
                              [&o](Context&) { return local_supervise(o); });
    supervise->group("");  // hidden
    for (CLI::App* command : {up, down, status, supervise}) {
      command->add_option("--dir", o.dir,
                          "Folder of its state, logs and checkpoints. Default: ~/.local/state/qwen3/local,\n"
                          "and for down and status the one brought up last");
    }
    for (CLI::App* command : {up, supervise}) {
      command->add_option("--workers", o.workers, "Worker daemons")->capture_default_str()->check(CLI::Range(1, 64));
      command->add_option("--slots", o.slots, "Slots of each worker: ranks it runs at once")
          ->capture_default_str()
          ->check(CLI::Range(1, 64));
      command->add_option("--bin-dir", o.bin_dir, "Folder of the service's binaries. Default: that of qwen3ctl");
    }
  }

  CLI::App& app_;
  Options& options_;
  Body& body_;
};

}  // namespace

int run_cli(int argc, const char* const* argv, const Console& console) try {
  CLI::App app("Trains Qwen3: submits jobs to a coordinator and watches them.", "qwen3ctl");
  app.footer(
      "Exit status: 0 succeeded, 1 usage, 2 refused, 3 not found, 4 denied, 5 unavailable, 10 the job failed by its "
      "own\n"
      "doing, 11 by infrastructure, 12 cancelled, 13 a call took too long, 124 --timeout, 130 detached by Ctrl-C.\n"
      "Example:\n  qwen3ctl local up --workers 2 && qwen3ctl submit configs/debugmodel.toml --watch");
  app.require_subcommand(0, 1);  // its absence is checked below, so that a misspelt one is named
  app.fallthrough();             // global options may stand behind the command
  Context context(console);
  app.set_version_flag("--version", absl::StrCat("qwen3ctl ", std::string(build_id())));
  app.add_option("--address", context.address,
                 "HOST:PORT of the coordinator. Default: $QWEN3_ADDRESS, else the local service, else 127.0.0.1:7400");
  std::string output = "table";
  app.add_option("--output,-o", output, "table or json")
      ->capture_default_str()
      ->check(CLI::IsMember({"table", "json"}));
  Options options;
  Body body;
  const CommandLine commands(app, options, body);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e, console.out, console.err) == 0 ? kSucceeded : kUsage;
  }
  if (!body) {
    console.err << "A subcommand is required\nRun with --help for more information.\n";
    return kUsage;
  }
  context.output = output == "json" ? Output::kJson : Output::kTable;
  const Result result = body(context);
  console.out.flush();
  if (result.ok()) return *result;
  print_error(console.err, result.status());
  return exit_code(result.status());
} catch (const std::exception& e) {
  console.err << "qwen3ctl: " << e.what() << '\n';
  return kUsage;
}

}  // namespace qwen3::client
