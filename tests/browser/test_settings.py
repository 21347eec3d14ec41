"""Our setting in the host's dialog, and what the server then has of it."""

import json

SETTING = "RelaxForcing.FinishedGB"


def test_the_room_for_finished_videos_is_a_setting_of_the_host(front_end, server):
    ask = f"app.extensionManager.setting.get('{SETTING}')"
    front_end.page.wait_for_function(f"{ask} === 4")
    front_end.page.keyboard.press("Control+,")
    front_end.page.get_by_role("searchbox").or_(
        front_end.page.get_by_placeholder("Search Settings")
    ).first.fill("finished videos")
    front_end.wait_for_text("Room for finished videos (GB)")
    front_end.page.keyboard.press("Escape")
    front_end.page.evaluate(f"app.extensionManager.setting.set('{SETTING}', 9)")
    front_end.page.wait_for_function(f"{ask} === 9")
    file = server.folder / "user" / "default" / "comfy.settings.json"
    assert json.loads(file.read_text())[SETTING] == 9
    front_end.page.evaluate(f"app.extensionManager.setting.set('{SETTING}', 4)")
