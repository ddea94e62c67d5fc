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
  TokenizeOptions tokenize;
  DownloadOptions download;
  LocalOptions local;
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
