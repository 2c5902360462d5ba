"""Lockgate's demo app: fill a canal lock, hash a file, count the boats of this tab."""

import hashlib
from pathlib import Path

import altair as alt
import pandas as pd
import streamlit as st

GRAVITY_M_S2 = 9.81
CHAMBER_AREA_M2 = 40.0 * 6.0
DISCHARGE_COEFFICIENT = 0.6
POINTS = 60
WATER = "#0e9aa7"
ICON = Path(__file__).with_name("icon.svg")  # a named icon would be fetched from a CDN


def compute_fill_time_s(rise_m: float, culvert_m2: float) -> float:
    """Seconds until the chamber is level with the upper pool (Torricelli's law)."""
    flow = DISCHARGE_COEFFICIENT * culvert_m2
    return float(2 * CHAMBER_AREA_M2 * rise_m**0.5 / (flow * (2 * GRAVITY_M_S2) ** 0.5))


def build_level_curve(rise_m: float, fill_s: float) -> pd.DataFrame:
    """Water level in metres over the time in seconds; it slows as the two sides even out."""
    share = [step / POINTS for step in range(POINTS + 1)]
    return pd.DataFrame(
        {
            "seconds": [fill_s * part for part in share],
            "metres": [rise_m * (1 - (1 - part) ** 2) for part in share],
        }
    )


def build_chart(curve: pd.DataFrame) -> alt.Chart:
    """The level as a filled curve."""
    water = alt.Gradient(
        gradient="linear",
        stops=[
            alt.GradientStop(color="rgba(14, 154, 167, 0.05)", offset=0),
            alt.GradientStop(color="rgba(14, 154, 167, 0.55)", offset=1),
        ],
        x1=1,
        x2=1,
        y1=1,
        y2=0,
    )
    return (
        alt.Chart(curve, height=260)
        .mark_area(line={"color": WATER, "strokeWidth": 3}, color=water, interpolate="monotone")
        .encode(
            x=alt.X("seconds:Q", title="Time (s)", axis=alt.Axis(grid=False, tickCount=8)),
            y=alt.Y("metres:Q", title="Water level (m)", axis=alt.Axis(tickCount=5)),
            tooltip=[alt.Tooltip("seconds:Q", format=".0f"), alt.Tooltip("metres:Q", format=".2f")],
        )
    )


def format_duration(seconds: float) -> str:
    """`3 min 20 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def show_lock() -> None:
    """A slider whose value decides two figures and a curve."""
    st.subheader("Fill the lock", anchor=False)
    left, right = st.columns(2, gap="large")
    rise_m = left.slider("Rise of the chamber (m)", 0.5, 8.0, 3.0, 0.5)
    culvert_m2 = right.slider("Opening of the culverts (m²)", 0.2, 2.0, 0.8, 0.1)
    fill_s = compute_fill_time_s(rise_m, culvert_m2)
    water, duration, flow = st.columns(3)
    water.metric("Water to move", f"{CHAMBER_AREA_M2 * rise_m:,.0f} m³", border=True)
    duration.metric("Time to fill", format_duration(fill_s), border=True)
    flow.metric("Mean flow", f"{CHAMBER_AREA_M2 * rise_m / fill_s:.2f} m³/s", border=True)
    st.altair_chart(build_chart(build_level_curve(rise_m, fill_s)))


def show_upload() -> None:
    """Size and SHA-256 of a file; its bytes stay in memory and go with the tab."""
    st.subheader("Weigh a file", anchor=False)
    upload = st.file_uploader("Any file up to 200 MB; it is held in memory only")
    if upload is None:
        return
    st.markdown(f"**{upload.size:,} bytes**, SHA-256:")
    st.code(hashlib.sha256(upload.getbuffer()).hexdigest(), language=None, wrap_lines=True)


def show_counter() -> None:
    """A count kept in this tab's session."""
    st.subheader("Count the boats", anchor=False)
    st.session_state.setdefault("boats", 0)
    if st.button("A boat passes", type="primary", icon=":material/sailing:", width="stretch"):
        st.session_state.boats += 1
    st.markdown(f"**Boats in this tab: {st.session_state.boats}**")


def main() -> None:
    """The page."""
    st.set_page_config(page_title="Hello from Lockgate", page_icon=str(ICON))
    st.title("Hello from Lockgate", anchor=False)
    st.markdown(
        "Like a boat in a lock, your request passed two gates: "
        "TLS to the gateway, then mutual TLS to this app."
    )
    show_lock()
    lower_left, lower_right = st.columns([3, 2], gap="large")
    with lower_left:
        show_upload()
    with lower_right:
        show_counter()


main()
